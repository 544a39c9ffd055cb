"""Cells over time: `unroll` and its parts."""

from jaxrnn.recurrence.linear import linear_scan as linear_scan
from jaxrnn.recurrence.over_time import unroll as unroll
from jaxrnn.recurrence.phases import Phase as Phase
from jaxrnn.recurrence.phases import last_carry as last_carry
from jaxrnn.recurrence.phases import plan_phases as plan_phases
from jaxrnn.recurrence.steps import lookup as lookup
