"""Where the kernel has the functions that are not in the one file that the port's module names."""

from __future__ import annotations

from typing import Final

ELSEWHERE: Final = {
    "arch/x86/include/asm/pgalloc.h": "pmd_populate",
    "arch/x86/include/asm/pgtable.h": "pmd_clear pte_clear pte_page set_pmd set_pte update_mmu_cache_pmd update_mmu_cache_range",
    "arch/x86/include/asm/pgtable_64_types.h": "PTRS_PER_PTE",
    "arch/x86/include/asm/tlbflush.h": "flush_tlb_range",
    "arch/x86/mm/fault.c": "access_error",
    "arch/x86/mm/pgprot.c": "vm_get_page_prot",
    "arch/x86/mm/pgtable.c": "pmdp_set_access_flags pte_alloc_one ptep_set_access_flags",
    "fs/proc/array.c": "proc_pid_status task_thp_status",
    "fs/proc/internal.h": "folio_precise_page_mapcount",
    "fs/proc/meminfo.c": "meminfo_proc_show",
    "fs/proc/task_mmu.c": "__show_smap show_map_vma show_smap show_smap_vma_flags show_smaps_rollup smap_gather_stats",
    "fs/userfaultfd.c": "handle_userfault",
    "include/asm-generic/pgalloc.h": "pte_free",
    "include/linux/align.h": "ALIGN_DOWN",
    "include/linux/highmem-internal.h": "kunmap_local",
    "include/linux/highmem.h": "clear_user_highpage copy_mc_user_highpage",
    "include/linux/huge_mm.h": """
        HPAGE_PMD_MASK HPAGE_PMD_NR HPAGE_PMD_ORDER HPAGE_PMD_SIZE THP_ORDERS_ALL_ANON count_mthp_stat highest_order mod_mthp_stat
        thp_vma_allowable_orders thp_vma_suitable_order thp_vma_suitable_orders
        """,
    "include/linux/khugepaged.h": "khugepaged_exit khugepaged_fork",
    "include/linux/ksm.h": "is_ksm_zero_pte ksm_might_unmap_zero_page",
    "include/linux/kstrtox.h": "kstrtoul",
    "include/linux/memcontrol.h": "count_memcg_event_mm count_memcg_folio_events mem_cgroup_charge mem_cgroup_uncharge",
    "include/linux/mm.h": """
        add_mm_counter folio_expected_ref_count folio_get folio_mapcount folio_maybe_mapped_shared folio_nid folio_nr_pages
        folio_order folio_pfn folio_put folio_put_refs get_mm_counter maybe_mkwrite mk_pte mm_dec_nr_ptes mm_inc_nr_ptes pmd_alloc
        pmd_lock pmd_lockptr pte_alloc pte_lockptr pte_unmap_unlock vma_is_anonymous vma_is_temporary_stack
        """,
    "include/linux/mmap_lock.h": """
        mmap_assert_locked mmap_read_lock mmap_read_trylock mmap_read_unlock mmap_write_downgrade mmap_write_lock mmap_write_unlock
        vma_start_write
        """,
    "include/linux/mmu_notifier.h": """
        mmu_notifier_invalidate_range_end mmu_notifier_invalidate_range_start mmu_notifier_test_young
        """,
    "include/linux/mmzone.h": "folio_is_zone_device",
    "include/linux/page-flags.h": """
        ClearPageAnonExclusive PageAnonExclusive SetPageAnonExclusive __folio_mark_uptodate folio_page folio_test_anon
        folio_test_large folio_test_locked folio_test_lru folio_test_mlocked folio_test_partially_mapped folio_test_referenced
        folio_test_swapbacked folio_test_swapcache folio_test_unevictable page_folio
        """,
    "include/linux/page_idle.h": "folio_test_young",
    "include/linux/page_ref.h": "folio_ref_add folio_ref_count",
    "include/linux/pagemap.h": "folio_trylock linear_page_index",
    "include/linux/pgtable.h": """
        clear_ptes is_zero_pfn pmd_offset pmd_pgtable pmdp_get pmdp_get_lockless pmdp_huge_get_and_clear pte_index pte_next_pfn
        pte_unmap ptep_get ptep_get_and_clear ptep_get_lockless set_pte_at set_ptes
        """,
    "include/linux/rmap.h": "anon_vma_lock_write anon_vma_prepare anon_vma_unlock_write",
    "include/linux/sched/mm.h": "mmdrop mmgrab",
    "include/linux/string.h": "strstrip",
    "include/linux/swap.h": "swap_free",
    "include/linux/swapops.h": """
        is_device_private_entry is_hwpoison_entry is_migration_entry is_migration_entry_dirty is_migration_entry_young
        is_pmd_migration_entry is_swap_pte make_pte_marker non_swap_entry pte_marker_get swp_entry_to_pte
        """,
    "include/linux/topology.h": "node_distance",
    "include/linux/userfaultfd_k.h": "pte_swp_uffd_wp_any userfaultfd_huge_pmd_wp userfaultfd_missing userfaultfd_pte_wp",
    "include/linux/vmstat.h": "count_vm_event count_vm_events node_stat_add_folio node_stat_mod_folio node_stat_sub_folio",
    "include/vdso/bits.h": "BIT",
    "include/vdso/page.h": "PAGE_SIZE",
    "kernel/kthread.c": "kthread_should_stop",
    "lib/cmdline.c": "memparse",
    "lib/kstrtox.c": "kstrtobool kstrtouint",
    "lib/string_helpers.c": "sysfs_streq",
    "mm/filemap.c": "folio_unlock",
    "mm/gup.c": "unpin_user_page",
    "mm/huge_memory.c": """
        __do_huge_pmd_anonymous_page do_huge_zero_wp_pmd huge_pmd_set_accessed map_anon_folio_pmd_pf set_huge_zero_folio
        single_hugepage_flag_show single_hugepage_flag_store vma_alloc_anon_folio_pmd zap_huge_pmd
        """,
    "mm/internal.h": """
        folio_evictable folio_unqueue_deferred_split mlock_vma_folio munlock_vma_folio pte_move_swp_offset swap_pte_batch
        """,
    "mm/khugepaged.c": "hugepage_madvise pte_none_or_zero",
    "mm/memcontrol.c": "mem_cgroup_migrate",
    "mm/memory.c": "__pmd_alloc folio_zero_user handle_mm_fault handle_pte_marker pmd_install wp_huge_pmd zap_pmd_range",
    "mm/migrate.c": "migration_entry_wait remove_migration_pte",
    "mm/mm_slot.h": "mm_slot_alloc mm_slot_free mm_slot_insert mm_slot_lookup",
    "mm/mmap.c": "find_vma",
    "mm/mmu_gather.c": "tlb_remove_table_sync_one",
    "mm/page_alloc.c": "__folio_alloc",
    "mm/pgtable-generic.c": """
        __pte_offset_map pgtable_trans_huge_deposit pmdp_collapse_flush pte_offset_map_lock pte_offset_map_ro_nolock
        """,
    "mm/rmap.c": """
        __anon_vma_prepare folio_add_anon_rmap_pte folio_add_new_anon_rmap folio_move_anon_rmap folio_remove_rmap_ptes mm_find_pmd
        """,
    "mm/swap.c": "__folio_put folio_add_lru folio_add_lru_vma lru_add_drain lru_add_drain_all",
    "mm/swap_state.c": "add_to_swap_cache delete_from_swap_cache free_swap_cache",
    "mm/util.c": "folio_pte_batch",
    "mm/vma.c": "find_mergeable_anon_vma",
    "mm/vmscan.c": "folio_isolate_lru folio_putback_lru",
}
"""Kernel file: names, at the base of the v12 series."""

FILE_OF: Final = {name: file for file, names in ELSEWHERE.items() for name in names.split()}

OWN: Final = {
    "kmm.mm.folio": "folio_clear_flag folio_set_flag",
    "kmm.mm.gup": "mapped_folio pin_user_page",
    "kmm.mm.khugepaged.daemon": "khugepaged_pass khugepaged_sleep_changed",
    "kmm.mm.khugepaged.enter": "mm_slot_del wake_up_khugepaged",
    "kmm.mm.khugepaged.types": "trace_folio",
    "kmm.mm.kstrtox": "c_string",
    "kmm.mm.madvise_reclaim": "madvise_cold_range madvise_pageout_range",
    "kmm.mm.madvise_walk": "madvise_pmds madvise_ptes",
    "kmm.mm.memcontrol": "memory_write",
    "kmm.mm.migrate": "migrate_to_ram",
    "kmm.mm.migration_wait": "wait_for_migration",
    "kmm.mm.mlock": "mlock_drain_all",
    "kmm.mm.mmu_gather": "give_up",
    "kmm.mm.munmap": "forget_pages",
    "kmm.mm.one_table": "madvise_dontneed_page madvise_dontneed_table mmput munmap prctl_thp_disable",
    "kmm.mm.page_alloc": "new_folio",
    "kmm.mm.page_table_check": "folio_freed pmd_clear pmd_set pte_clear pte_set",
    "kmm.mm.pgtable": "kmap_local mk_zero_pte",
    "kmm.mm.pte": """
        make_migration_entry make_pmd_migration_entry make_special_entry pte_mkprotnone pte_swp_type pte_to_swp_offset
        swp_entry_pfn
        """,
    "kmm.mm.secondary_fault": "guest_access secondary_access",
    "kmm.mm.smaps": "kilobytes show_smaps thp_eligible",
    "kmm.mm.swap_fault": "__do_swap_page",
    "kmm.mm.swapfile": "forget_slots",
    "kmm.mm.sysfs": "sysfs_files sysfs_files_of sysfs_path sysfs_read sysfs_write",
    "kmm.mm.sysfs.attribute": "choices chosen_by number read_number single_hugepage_flag",
    "kmm.mm.sysfs.khugepaged": "max_ptes_store sleep_millisecs_store",
    "kmm.mm.sysfs.thpsize": "stat_show thpsize_attribute thpsize_directory thpsize_files",
    "kmm.mm.system": "page_at recorder_note",
    "kmm.mm.task_mmu": "gathered new_stats",
    "kmm.mm.uaccess": "user_load user_store",
    "kmm.mm.vma": "split_around vma_at vmas_in vmas_of",
    "kmm.mm.vmscan": "isolate_for_reclaim swap_out_folio",
    "kmm.mm.vmstat": "node_stat_mod nr_page_table_pages nr_swapcached",
    "kmm.mm.zap": "free_pte_table table_slot zap_page_range zap_ptes zap_table",
    "refactors.reviewed": "call_site map_anon_folio_pte_nopf",
}
"""Module: functions for which the kernel of the base has none of that name."""
