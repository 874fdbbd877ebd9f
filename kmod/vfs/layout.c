// SPDX-License-Identifier: GPL-2.0
/*
 * The C compiler's view of the structures that Rust reaches into, compiled to assembly and turned into Rust constants
 * (like the kernel's asm-offsets). layout.rs compares them with bindgen's view: one differing -D would otherwise corrupt
 * memory in silence.
 */
#include <linux/kbuild.h>

#include "bindings.h"

#define SIZE(s) DEFINE(s, sizeof(struct s))
#define FIELD(s, f) DEFINE(s##__##f, offsetof(struct s, f))

int main(void)
{
	SIZE(file_system_type);
	FIELD(file_system_type, init_fs_context);
	FIELD(file_system_type, parameters);
	FIELD(file_system_type, kill_sb);
	FIELD(file_system_type, owner);

	SIZE(fs_context);
	FIELD(fs_context, fs_private);
	FIELD(fs_context, root);
	FIELD(fs_context, log);
	FIELD(fs_context, source);
	FIELD(fs_context, s_fs_info);
	FIELD(fs_context, sb_flags);
	FIELD(fs_context, sb_flags_mask);
	SIZE(fs_context_operations);
	SIZE(fs_parameter);
	FIELD(fs_parameter, key);
	SIZE(fs_parameter_spec);
	FIELD(fs_parameter_spec, data);
	SIZE(fs_parse_result);

	SIZE(super_block);
	FIELD(super_block, s_flags);
	FIELD(super_block, s_op);
	FIELD(super_block, s_root);
	FIELD(super_block, s_fs_info);
	FIELD(super_block, s_time_gran);
	FIELD(super_block, s_id);
	SIZE(super_operations);
	FIELD(super_operations, shutdown);

	SIZE(inode);
	FIELD(inode, i_sb);
	FIELD(inode, i_ino);
	FIELD(inode, i_op);
	SIZE(inode_operations);
	FIELD(inode_operations, set_acl);
	SIZE(xattr_handler);
	FIELD(xattr_handler, set);
	SIZE(xattr);
	FIELD(xattr, value_len);
	SIZE(file_operations);
	FIELD(file_operations, unlocked_ioctl);
	SIZE(dentry);
	FIELD(dentry, d_inode);
	FIELD(dentry, d_sb);
	SIZE(file);
	FIELD(file, f_inode);
	SIZE(dir_context);
	SIZE(kstatfs);
	FIELD(kstatfs, f_namelen);

	SIZE(address_space_operations);
	FIELD(address_space_operations, writepages);
	SIZE(vm_operations_struct);
	FIELD(vm_operations_struct, page_mkwrite);
	SIZE(vm_area_desc);
	FIELD(vm_area_desc, vm_ops);
	SIZE(kiocb);
	FIELD(kiocb, ki_filp);
	FIELD(kiocb, ki_pos);
	SIZE(writeback_control);
	FIELD(writeback_control, sync_mode);
	SIZE(iomap);
	FIELD(iomap, addr);
	FIELD(iomap, type);
	SIZE(iomap_iter);
	FIELD(iomap_iter, private);
	SIZE(iomap_ops);
	SIZE(iomap_write_ops);
	SIZE(iomap_read_ops);
	SIZE(iomap_read_folio_ctx);
	FIELD(iomap_read_folio_ctx, read_ctx);
	SIZE(iomap_writepage_ctx);
	FIELD(iomap_writepage_ctx, wb_ctx);
	SIZE(iomap_writeback_ops);
	return 0;
}
