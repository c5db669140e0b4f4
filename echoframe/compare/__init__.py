"""The same handler on every model, side by side: what is measured, how, and how it is told.

    run                          workloads by subjects, rounds interleaved
    subjects       loaders       the servers' processes │ the load's processes
    subject        load          what runs in one       │ what runs in one
    terminal  page  tables       a result as text, as a page, as CSV and Markdown
    verdict  timeline  drawings  in words │ who waited, as characters │ as plotly's traces
    criteria  columns            what must not be │ what a table has
    measures                     each figure under one name
    figures                      medians, spreads, differences
    result    workload           what came out │ what is asked, both plain data
    histogram units              times counted │ numbers to words

A result is plain data; whatever is shown is worked out from it and nothing else.
"""

from __future__ import annotations
