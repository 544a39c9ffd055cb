"""The look of the HTML page: readable on a phone and on a large screen, light and dark."""

from string import Template

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">$refresh
<title>$title</title>
<style>
:root { color-scheme: light dark; --text: #1c1c1c; --faint: #595959; --line: #8884; --back: #fff; --raised: #f4f5f6;
        --link: #005a94; --good: #00664b; --bad: #a33c00; }
@media (prefers-color-scheme: dark) { :root {
  --text: #e6e6e6; --faint: #b0b0b0; --line: #8886; --back: #16181b; --raised: #212428; --link: #7cc0ee;
  --good: #5fd0ac; --bad: #ffab78; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: .75rem 1rem 4rem; }
h1, h2, h3, h4 { line-height: 1.25; margin: .7rem 0 .5rem; }
h2 { font-size: 1.35rem; border-bottom: 1px solid var(--line); }
a, button { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
details p { max-width: 52rem; }
nav ul { columns: 17rem; padding-left: 1.2rem; }
nav ul ul { columns: auto; }

/* Verdicts have a sign, a word and a colour. */
.badge { display: inline-block; border: 1px solid; border-radius: 1em; padding: 0 .6em; font-size: .9em;
         line-height: 1.4; white-space: nowrap; }
.badge::before { content: "?\\a0" / ""; }
.good { color: var(--good); } .good::before { content: "\\2713\\a0" / ""; }
.bad { color: var(--bad); } .bad::before { content: "\\2717\\a0" / ""; }

/* A link leads to the content below a heading; the heading stays in sight. */
[id] { scroll-margin-top: 4.5rem; }
summary { cursor: pointer; display: flex; gap: .6rem; align-items: baseline; border-bottom: 1px solid var(--line); }
summary::before { content: "\\25b8" / ""; color: var(--faint); width: .8em; }
details[open] > summary::before { content: "\\25be" / ""; }
summary > * { border: 0; margin: .45rem 0; flex: 1; }
summary .badge { float: right; margin-left: .6rem; }
details details > div { padding: 0 0 .5rem 1.4rem; }
.up { position: fixed; right: .8rem; bottom: .8rem; padding: .1rem .6rem; background: var(--raised); }

.wide { overflow-x: auto; position: relative; }
table { border-collapse: collapse; font-size: .875rem; margin: .8rem 0; font-variant-numeric: tabular-nums; }
caption, figcaption { font-size: .875rem; text-align: left; color: var(--faint); max-width: 60rem; }
th, td { padding: .32rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { max-width: 14rem; min-width: 5rem; text-wrap: balance; }
td > div { max-width: 30rem; min-width: min(14rem, var(--length) * 1ch); }
thead th { border-bottom-width: 2px; vertical-align: bottom; }
.number { text-align: right; }
figure { display: inline-block; vertical-align: top; width: min(100%, var(--width)); margin: 1rem 0; }
img { display: block; width: 100%; height: auto; }

/* On a narrow screen, tables and pictures scroll so that letters stay large; captions and row names stay in sight. */
@media (max-width: 44rem) {
  img { width: max(100%, .85 * var(--width)); }
  caption { position: sticky; left: 0; width: calc(100vw - 2rem); max-width: calc(100vw - 2rem); }
  tbody th, thead th:first-child { position: sticky; left: 0; max-width: 8rem; background: var(--back); }
  details details > div { padding-left: 0; }
}
</style></head>
<body><main>
<h1>$title</h1>
$summary
<nav id="contents" aria-label="Contents"><h2>Contents</h2>$contents</nav>
$sections
</main>
<a class="up" href="#contents">Contents</a>
<script>
const unfoldAll = () => document.querySelectorAll("details").forEach(fold => fold.open = true);
addEventListener("beforeprint", unfoldAll);
document.querySelector("nav").insertAdjacentHTML("beforeend", "<button type=button>Open all sections</button>");
document.querySelector("nav button").onclick = unfoldAll;
</script></body></html>
""")
