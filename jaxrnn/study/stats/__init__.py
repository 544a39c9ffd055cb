"""What many seeds say together: estimates with 95 % intervals and comparisons of two arms, on the host.

The observation is one run (one seed). A run that has not converged by the horizon, the last step it was allowed, is
right-censored there: neither dropped nor averaged in. Everything is deterministic: resampling starts from a fixed seed.
A quantity that the sample does not determine is `None`, never NaN, and a `note` says in words what is special.
"""

from jaxrnn.study.stats.comparisons import Comparison as Comparison
from jaxrnn.study.stats.comparisons import compare_means as compare_means
from jaxrnn.study.stats.comparisons import compare_paired as compare_paired
from jaxrnn.study.stats.comparisons import difference_of_proportions as difference_of_proportions
from jaxrnn.study.stats.comparisons import fisher_exact as fisher_exact
from jaxrnn.study.stats.comparisons import holm as holm
from jaxrnn.study.stats.comparisons import sign_flip as sign_flip
from jaxrnn.study.stats.comparisons import smallest_p as smallest_p
from jaxrnn.study.stats.comparisons import smallest_p_paired as smallest_p_paired
from jaxrnn.study.stats.curves import Plateau as Plateau
from jaxrnn.study.stats.curves import longest_wait as longest_wait
from jaxrnn.study.stats.curves import plateau as plateau
from jaxrnn.study.stats.curves import would_stop_at as would_stop_at
from jaxrnn.study.stats.estimates import CONFIDENCE as CONFIDENCE
from jaxrnn.study.stats.estimates import FEW_SEEDS as FEW_SEEDS
from jaxrnn.study.stats.estimates import RESAMPLES as RESAMPLES
from jaxrnn.study.stats.estimates import Estimate as Estimate
from jaxrnn.study.stats.estimates import bootstrap as bootstrap
from jaxrnn.study.stats.estimates import mean as mean
from jaxrnn.study.stats.estimates import proportion as proportion
from jaxrnn.study.stats.power import seeds_to_clear as seeds_to_clear
from jaxrnn.study.stats.power import seeds_to_decide as seeds_to_decide
from jaxrnn.study.stats.power import seeds_to_decide_proportions as seeds_to_decide_proportions
from jaxrnn.study.stats.projection import principal_plane as principal_plane
from jaxrnn.study.stats.survival import LogRank as LogRank
from jaxrnn.study.stats.survival import StepsSample as StepsSample
from jaxrnn.study.stats.survival import SurvivalCurve as SurvivalCurve
from jaxrnn.study.stats.survival import compare_restricted_means as compare_restricted_means
from jaxrnn.study.stats.survival import log_rank as log_rank
from jaxrnn.study.stats.survival import median_steps as median_steps
from jaxrnn.study.stats.survival import restricted_mean as restricted_mean
from jaxrnn.study.stats.survival import steps_sample as steps_sample
from jaxrnn.study.stats.survival import survival_curve as survival_curve
