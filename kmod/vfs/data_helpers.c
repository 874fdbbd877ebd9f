// SPDX-License-Identifier: GPL-2.0
#include <linux/fs.h>
#include <linux/fserror.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/writeback.h>

#include "data_helpers.h"

/* Of 1 MiB, what writeback gathers at once. */
#define MAX_ORDER_OF_A_FOLIO 8

void embr_mapping_set_up(struct inode *inode, const struct address_space_operations *operations)
{
	inode->i_mapping->a_ops = operations;
	mapping_set_stable_writes(inode->i_mapping);
	mapping_set_release_always(inode->i_mapping);
	mapping_set_folio_order_range(inode->i_mapping, 0, MAX_ORDER_OF_A_FOLIO);
}

void embr_mapping_set_error(struct address_space *mapping, int error)
{
	mapping_set_error(mapping, error);
}

void embr_invalidate_lock(struct address_space *mapping)
{
	filemap_invalidate_lock(mapping);
}

void embr_invalidate_unlock(struct address_space *mapping)
{
	filemap_invalidate_unlock(mapping);
}

void embr_invalidate_lock_shared(struct address_space *mapping)
{
	filemap_invalidate_lock_shared(mapping);
}

void embr_invalidate_unlock_shared(struct address_space *mapping)
{
	filemap_invalidate_unlock_shared(mapping);
}

loff_t embr_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

void embr_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

void embr_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

void embr_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

void embr_inode_lock_shared(struct inode *inode)
{
	inode_lock_shared(inode);
}

void embr_inode_unlock_shared(struct inode *inode)
{
	inode_unlock_shared(inode);
}

bool embr_inode_is_dirty(struct inode *inode)
{
	/* What is being synced was dirty a moment ago, and may not be done yet. */
	return inode_state_read_once(inode) & (I_DIRTY_ALL | I_SYNC);
}

void embr_mark_pages_dirty(struct inode *inode)
{
	__mark_inode_dirty(inode, I_DIRTY_PAGES);
}

void embr_mark_times_dirty(struct inode *inode)
{
	mark_inode_dirty_sync(inode);
}

void embr_inode_touch(struct inode *inode)
{
	inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
}

void embr_data_times(const struct inode *inode, struct timespec64 *change, struct timespec64 *modification)
{
	*change = inode_get_ctime(inode);
	*modification = inode_get_mtime(inode);
}

struct address_space *embr_folio_mapping(const struct folio *folio)
{
	return folio->mapping;
}

loff_t embr_folio_pos(const struct folio *folio)
{
	return folio_pos(folio);
}

size_t embr_folio_size(const struct folio *folio)
{
	return folio_size(folio);
}

void *embr_folio_address(struct folio *folio, size_t offset)
{
	return folio_address(folio) + offset;
}

void embr_folio_put_locked(struct folio *folio)
{
	folio_unlock(folio);
	folio_put(folio);
}

struct folio *embr_lock_cached_folio(struct address_space *mapping, loff_t at)
{
	return filemap_lock_folio(mapping, at >> PAGE_SHIFT);
}

void embr_folio_zero_segment(struct folio *folio, size_t from, size_t to)
{
	folio_zero_segment(folio, from, to);
}

void embr_report_write_error(struct inode *inode, loff_t at, u64 len, int error)
{
	fserror_report_io(inode, FSERR_BUFFERED_WRITE, at, len, error, GFP_NOFS);
}

void embr_sb_start_intwrite(struct super_block *sb)
{
	sb_start_intwrite(sb);
}

void embr_sb_end_intwrite(struct super_block *sb)
{
	sb_end_intwrite(sb);
}

void embr_sb_start_pagefault(struct super_block *sb)
{
	sb_start_pagefault(sb);
}

void embr_sb_end_pagefault(struct super_block *sb)
{
	sb_end_pagefault(sb);
}

void embr_sync_inodes(struct super_block *sb)
{
	if (down_read_trylock(&sb->s_umount)) {
		sync_inodes_sb(sb);
		up_read(&sb->s_umount);
	}
}

struct file *embr_fault_file(const struct vm_fault *fault)
{
	return fault->vma->vm_file;
}

struct folio *embr_fault_folio(const struct vm_fault *fault)
{
	return page_folio(fault->page);
}

void embr_file_accessed(struct file *file)
{
	file_accessed(file);
}

ssize_t embr_write_sync(struct kiocb *iocb, ssize_t count)
{
	return generic_write_sync(iocb, count);
}
