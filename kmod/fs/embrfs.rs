// SPDX-License-Identifier: GPL-2.0

//! The VFS's questions, and who answers them.

use crate::{
    info,
    mount,
    names,
    options::{
        Name,
        Options, //
    },
    uapi,
    volume::Volume, //
};
use embr_engine::units::BLOCK_SIZE;
use embr_vfs::{
    bdev::DeviceNumber,
    file::Command,
    file_system::{
        FileSystem,
        Flags,
        Key,
        StatFs, //
    },
    inode::Inode,
    log::Log,
    params::{
        Parameters,
        Value, //
    },
    super_ops::OptionWriter,
    superblock::{
        Live,
        New,
        SuperBlock, //
    },
};
use kernel::prelude::*;

/// embrfs, as a file system among others.
pub(crate) struct Embrfs;

/// Longest name in bytes.
const NAME_MAX: u32 = 255;

impl FileSystem for Embrfs {
    const NAME: &'static CStr = c"embrfs";
    const FLAGS: Flags = Flags::REQUIRES_DEVICE
        .and(Flags::ALLOW_IDMAP)
        .and(Flags::MULTIGRAIN_TIMES);

    type Options = Options;
    type Parameter = Name;
    type Volume = Volume;
    type InodeState = ();

    fn new_inode_state() -> Result {
        Ok(())
    }

    fn parameters() -> Parameters<Name> {
        Options::parameters()
    }

    fn new_options() -> Result<Options> {
        Ok(Options::new())
    }

    fn parse(options: &mut Options, name: Name, value: Value<'_>, log: &Log<'_>) -> Result {
        options.set(name, value, log)
    }

    fn identify(_options: &mut Options, source: Option<&CStr>, log: &Log<'_>) -> Result<Key> {
        mount::identify(source, log)
    }

    fn fill<'sb>(
        sb: SuperBlock<'sb, Self, New>,
        options: &mut Options,
        source: Option<&CStr>,
        log: &Log<'_>,
    ) -> Result<SuperBlock<'sb, Self, Live>> {
        mount::fill(sb, options, source, log)
    }

    fn share(
        volume: &Volume,
        options: &mut Options,
        source: Option<&CStr>,
        log: &Log<'_>,
    ) -> Result {
        mount::share(volume, options, source, log)
    }

    fn reconfigure(
        volume: &Volume,
        options: &mut Options,
        read_only: bool,
        log: &Log<'_>,
    ) -> Result {
        mount::reconfigure(volume, options, read_only, log)
    }

    fn statfs(volume: &Volume) -> Result<StatFs> {
        volume.check()?;
        let usage = volume.mounted().statfs();
        let [a, b, c, d, e, f, g, h, rest @ ..] = volume.engine.uuid().0;
        let id = u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_le_bytes(rest);
        Ok(StatFs {
            magic: uapi::SUPER_MAGIC,
            block_size: BLOCK_SIZE as u32,
            blocks: usage.total.0,
            free: usage.free.0,
            available: usage.available.0,
            // Inodes come from the same space as everything else.
            files: 0,
            files_free: 0,
            fsid: [id as u32, (id >> 32) as u32],
            name_max: NAME_MAX,
        })
    }

    fn show_options(volume: &Volume, out: &OptionWriter<'_>) {
        for member in &volume.host().members {
            out.text(c"device", &member.path);
        }
        if volume.degraded {
            out.flag(c"degraded");
        }
        if volume.mounted().discard().is_some() {
            out.flag(c"discard");
        }
    }

    fn sync(volume: &Volume, wait: bool) -> Result {
        if wait {
            volume.sync()
        } else {
            volume.begin_sync();
            Ok(())
        }
    }

    fn sync_file(inode: &Inode<Self>, _data_only: bool) -> Result {
        // The order of everything is one: what happened to other files before goes with it.
        inode.volume().sync()
    }

    fn unmount(volume: &Volume) {
        volume.close();
    }

    fn write_attributes(inode: &Inode<Self>) -> Result {
        names::write_attributes(inode)
    }

    fn write_times(inode: &Inode<Self>) -> Result {
        names::write_times(inode)
    }

    fn forget(inode: &Inode<Self>) {
        names::forget(inode);
    }

    fn device_gone(volume: &Volume, device: DeviceNumber) -> Result {
        volume.lose(device)
    }

    fn shut_down(volume: &Volume) {
        volume.shut_down("for too few devices are left");
    }

    fn may_get_attributes(inode: &Inode<Self>) -> Result {
        inode.volume().check()
    }

    fn ioctl(inode: &Inode<Self>, command: Command) -> Result<isize> {
        info::ioctl(inode, command)
    }
}
