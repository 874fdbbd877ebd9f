// SPDX-License-Identifier: GPL-2.0

//! Proof, at compile time, that Rust and C agree about every structure that this crate reaches into. See layout.c.

use crate::bindings;
use core::mem::{
    offset_of,
    size_of, //
};
use kernel::bindings as kb;

#[allow(dead_code, missing_docs, non_upper_case_globals, unreachable_pub)]
mod c {
    include!(concat!(env!("EMBR_OBJ"), "/kmod/vfs/layout_generated.rs"));
}

macro_rules! same {
    ($($crate_:ident :: $name:ident { $($field:ident: $offset:ident),* })*) => {
        $(
            const _: () = assert!(size_of::<$crate_::$name>() == c::$name);
            $(const _: () = assert!(offset_of!($crate_::$name, $field) == c::$offset);)*
        )*
    };
}

same! {
    kb::file_system_type {
        init_fs_context: file_system_type__init_fs_context,
        parameters: file_system_type__parameters,
        kill_sb: file_system_type__kill_sb,
        owner: file_system_type__owner
    }
    bindings::fs_context {
        fs_private: fs_context__fs_private,
        root: fs_context__root,
        log: fs_context__log,
        source: fs_context__source,
        s_fs_info: fs_context__s_fs_info,
        sb_flags: fs_context__sb_flags,
        sb_flags_mask: fs_context__sb_flags_mask
    }
    bindings::fs_context_operations {}
    bindings::fs_parameter { key: fs_parameter__key }
    bindings::fs_parameter_spec { data: fs_parameter_spec__data }
    bindings::fs_parse_result {}
    kb::super_block {
        s_flags: super_block__s_flags,
        s_op: super_block__s_op,
        s_root: super_block__s_root,
        s_fs_info: super_block__s_fs_info,
        s_time_gran: super_block__s_time_gran,
        s_id: super_block__s_id
    }
    kb::super_operations { shutdown: super_operations__shutdown }
    kb::inode { i_sb: inode__i_sb, i_ino: inode__i_ino, i_op: inode__i_op }
    kb::inode_operations { set_acl: inode_operations__set_acl }
    kb::xattr_handler { set: xattr_handler__set }
    kb::xattr { value_len: xattr__value_len }
    kb::file_operations { unlocked_ioctl: file_operations__unlocked_ioctl }
    kb::dentry { d_inode: dentry__d_inode, d_sb: dentry__d_sb }
    kb::file { f_inode: file__f_inode }
    kb::dir_context {}
    bindings::kstatfs { f_namelen: kstatfs__f_namelen }
    kb::address_space_operations { writepages: address_space_operations__writepages }
    kb::vm_operations_struct { page_mkwrite: vm_operations_struct__page_mkwrite }
    kb::vm_area_desc { vm_ops: vm_area_desc__vm_ops }
    kb::kiocb { ki_filp: kiocb__ki_filp, ki_pos: kiocb__ki_pos }
    kb::writeback_control { sync_mode: writeback_control__sync_mode }
    bindings::iomap { addr: iomap__addr, type_: iomap__type }
    bindings::iomap_iter { private: iomap_iter__private }
    bindings::iomap_ops {}
    bindings::iomap_write_ops {}
    bindings::iomap_read_ops {}
    bindings::iomap_read_folio_ctx { read_ctx: iomap_read_folio_ctx__read_ctx }
    bindings::iomap_writepage_ctx { wb_ctx: iomap_writepage_ctx__wb_ctx }
    bindings::iomap_writeback_ops {}
}
