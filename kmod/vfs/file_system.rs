// SPDX-License-Identifier: GPL-2.0

//! What a file system says about itself, and the calls that it answers.

use crate::{
    bdev::DeviceNumber,
    file::Command,
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
use kernel::{
    bindings as kb,
    prelude::*, //
};

/// What tells one volume from another: two mounts with the same key share one superblock.
pub type Key = [u8; 16];

/// Properties of a file system as a type.
#[derive(Clone, Copy)]
pub struct Flags(pub(crate) u32);

impl Flags {
    /// It lives on block devices.
    pub const REQUIRES_DEVICE: Flags = Flags(kb::FS_REQUIRES_DEV);
    /// It can be mounted with mapped user ids.
    pub const ALLOW_IDMAP: Flags = Flags(kb::FS_ALLOW_IDMAP);
    /// Its times have multi-grain resolution.
    pub const MULTIGRAIN_TIMES: Flags = Flags(kb::FS_MGTIME);

    /// Both.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// What statfs(2) reports.
pub struct StatFs {
    /// The file system's magic number.
    pub magic: u32,
    /// Bytes in a block.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free ones.
    pub free: u64,
    /// Free ones that users may have.
    pub available: u64,
    /// Files that there can be.
    pub files: u64,
    /// How many more there can be.
    pub files_free: u64,
    /// An identity.
    pub fsid: [u32; 2],
    /// Longest name in bytes.
    pub name_max: u32,
}

/// A file system.
pub trait FileSystem: Sized + 'static {
    /// Its name in mount(2) and /proc/filesystems.
    const NAME: &'static CStr;
    /// Its properties.
    const FLAGS: Flags;
    /// What mount options add up to.
    type Options: Send;
    /// Names of mount options.
    type Parameter: Copy + 'static;
    /// A mounted volume.
    type Volume: Send + Sync;
    /// What is kept with each inode in memory. It is dropped where nothing may sleep.
    type InodeState: Send + Sync;

    /// What an inode begins with.
    fn new_inode_state() -> Result<Self::InodeState>;

    /// The mount options.
    fn parameters() -> Parameters<Self::Parameter>;

    /// Options before any is given.
    fn new_options() -> Result<Self::Options>;

    /// Takes one option.
    fn parse(
        options: &mut Self::Options,
        parameter: Self::Parameter,
        value: Value<'_>,
        log: &Log<'_>,
    ) -> Result;

    /// Finds out which volume is meant, without claiming anything.
    fn identify(options: &mut Self::Options, source: Option<&CStr>, log: &Log<'_>) -> Result<Key>;

    /// Brings a superblock that nobody else sees to life.
    fn fill<'sb>(
        sb: SuperBlock<'sb, Self, New>,
        options: &mut Self::Options,
        source: Option<&CStr>,
        log: &Log<'_>,
    ) -> Result<SuperBlock<'sb, Self, Live>>;

    /// The volume is mounted already and this mount would share it: is that right with these options?
    fn share(
        volume: &Self::Volume,
        options: &mut Self::Options,
        source: Option<&CStr>,
        log: &Log<'_>,
    ) -> Result;

    /// A remount with these options.
    fn reconfigure(
        volume: &Self::Volume,
        options: &mut Self::Options,
        read_only: bool,
        log: &Log<'_>,
    ) -> Result;

    /// Sizes.
    fn statfs(volume: &Self::Volume) -> Result<StatFs>;

    /// Writes mount options for /proc/mounts.
    fn show_options(volume: &Self::Volume, out: &OptionWriter<'_>);

    /// Makes durable all that happened before. Where nobody waits for it, it is enough to begin.
    fn sync(volume: &Self::Volume, wait: bool) -> Result;

    /// Makes durable all that happened to a file before, and whatever happened before that.
    fn sync_file(inode: &Inode<Self>, data_only: bool) -> Result;

    /// The last mount is gone, and with it every inode: what is not on disk yet goes there now.
    fn unmount(volume: &Self::Volume);

    /// Keeps the attributes that an inode has in memory, all but its size. The inode is locked.
    fn write_attributes(inode: &Inode<Self>) -> Result;

    /// Keeps the times that an inode has in memory. The inode need not be locked.
    fn write_times(inode: &Inode<Self>) -> Result;

    /// An inode without a name goes: so does its file.
    fn forget(inode: &Inode<Self>);

    /// A device vanished. An error means that the volume cannot go on without it; [`Self::shut_down`] follows.
    fn device_gone(volume: &Self::Volume, device: DeviceNumber) -> Result;

    /// From now on nothing may touch the volume.
    fn shut_down(volume: &Self::Volume);

    /// Called before an inode's attributes are reported.
    fn may_get_attributes(inode: &Inode<Self>) -> Result;

    /// ioctl(2) on a file or directory. ENOTTY for what is unknown.
    fn ioctl(inode: &Inode<Self>, command: Command) -> Result<isize>;
}
