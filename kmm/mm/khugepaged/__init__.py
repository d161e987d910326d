"""The port of mm/khugepaged.c at v12, all but ``collapse_huge_page``, which is the variant's.

Read in this order: :mod:`scan` (one table, and the walk over orders), :mod:`limits`, :mod:`revalidate`, :mod:`alloc`,
:mod:`swapin`, :mod:`isolate`, :mod:`copy`.
"""
