"""The port of mm/khugepaged.c at v12, all but ``collapse_huge_page``, which is the variant's.

Read in this order: :mod:`scan` (one table, and the walk over orders), :mod:`limits`, :mod:`revalidate`, :mod:`alloc`,
:mod:`swapin`, :mod:`isolate`, :mod:`copy`. Above them: :mod:`daemon` (the kernel thread), :mod:`scan_mm_slot` (one visit to an address
space), :mod:`enter` and :mod:`mm_slot` (who is on its list), :mod:`madvise_collapse`.
"""
