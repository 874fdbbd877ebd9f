// SPDX-License-Identifier: GPL-2.0

//! What is inside of a volume in image files: worked on as a mount does, and changed as nobody should.

use embr_engine::env::Environment;
use embr_engine::format::member::Slot;
use embr_engine::format::node::Node;
use embr_engine::format::pointer::Pointer;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::tree::check;
use embr_engine::tree::check::Depth;
use embr_engine::tree::check::Visitor;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::tree::TreeError;
use embr_engine::units::Bytes;
use embr_engine::units::TreeId;
use embr_engine::units::Uuid;
use embr_engine::volume::assemble;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embrfs_host::machine::Event;
use embrfs_host::machine::Process;
use embrfs_host::machine::Slots;
use embrfs_host::Host;
use embrfs_host::WritableFileDevice;
use embrfs_sim::forge;

/// A process that writes to the devices.
pub type Writer<'d> = Process<'d, WritableFileDevice, fn(Event<'_>)>;

pub fn opened(devices: &[String]) -> Vec<(Slot, WritableFileDevice)> {
    let open = |path: &String| WritableFileDevice::open(path.as_ref()).unwrap();
    let numbered = (0..).map(|n| Slot::new(n).unwrap());
    numbered.zip(devices.iter().map(open)).collect()
}

fn mounted<R>(
    devices: &[String],
    read_only: bool,
    act: impl FnOnce(&Mounted<Writer<'_>>, &Names) -> R,
) -> R {
    let host = Host::new().unwrap();
    let opened: Vec<WritableFileDevice> = opened(devices).into_iter().map(|(_, d)| d).collect();
    let probed = opened.iter().map(|d| probe(d, host.hasher()).unwrap());
    let members: Vec<_> = probed.collect();
    let volume = assemble(&members).unwrap();
    let process: Writer<'_> = Process::new(Slots::of_volume(&volume, &opened), &host, |_| {});
    let options = Options {
        read_only,
        degraded: true,
        cache: Bytes(4 << 20),
        dirty: Bytes(4 << 20),
    };
    let mounted = Mounted::open(process, &volume, &members, options).unwrap();
    let names = Names::try_new(HashWidth::Full).unwrap();
    let done = act(&mounted, &names);
    mounted.into_inner().close().unwrap();
    done
}

/// Mounts the volume, works on its files, and unmounts it.
pub fn work<R>(devices: &[String], work: impl FnOnce(Files<'_, Writer<'_>>) -> R) -> R {
    mounted(devices, false, |mounted, names| {
        work(names.of(mounted, &View::first()))
    })
}

/// Mounts the volume, works on all that it has, and unmounts it.
pub fn work_on<R>(devices: &[String], work: impl FnOnce(&Mounted<Writer<'_>>, &Names) -> R) -> R {
    mounted(devices, false, work)
}

/// The same without writing.
pub fn look<R>(devices: &[String], look: impl FnOnce(Files<'_, Writer<'_>>) -> R) -> R {
    mounted(devices, true, |mounted, names| {
        look(names.of(mounted, &View::first()))
    })
}

/// Mounts the volume and unmounts it: the nodes of its first roots come into the free space of the next.
pub fn remount(devices: &[String]) {
    work(devices, |_| {});
}

/// Changes the entries of each leaf of a tree.
pub fn change(devices: &[String], tree: TreeId, mut edit: impl FnMut(&mut Vec<(Key, Vec<u8>)>)) {
    let volume = uuid(devices);
    let mut leaf = |spot: forge::Spot, bytes: &mut Vec<u8>| {
        if spot.tree == tree && spot.level.is_leaf() {
            forge::entries(bytes, volume, &mut edit);
        }
    };
    forge::forge(&opened(devices), &mut leaf, &mut |_, _, _| {}).unwrap();
}

fn uuid(devices: &[String]) -> Uuid {
    let (_, device) = &opened(devices)[0];
    let member = probe(device, Host::new().unwrap().hasher()).unwrap();
    member.superblock.volume
}

/// A leaf of a tree: its keys, and where each of its copies begins, by the device and the byte.
pub struct Leaf {
    pub keys: Range,
    pub places: Vec<(usize, u64)>,
}

impl Leaf {
    /// Makes every copy of it useless.
    pub fn rot(&self, devices: &[String]) {
        for (device, at) in &self.places {
            super::rot(&devices[*device], at + 5000);
        }
    }
}

struct Leaves(Vec<Leaf>);

impl Visitor for Leaves {
    fn node(&mut self, pointer: &Pointer, node: &Node) -> Result<(), TreeError> {
        if node.level().is_leaf() {
            let places = pointer.places.iter();
            let places = places.map(|p| (p.device.index(), p.block.bytes().unwrap().0));
            self.0.push(Leaf {
                keys: node.range(),
                places: places.collect(),
            });
        }
        Ok(())
    }

    fn lost(&mut self, why: &TreeError, _: Range) -> Result<(), TreeError> {
        Err(*why)
    }

    fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }
}

/// The leaves of a tree, in order.
pub fn leaves(devices: &[String], tree: TreeId) -> Vec<Leaf> {
    let mut found = Leaves(Vec::new());
    mounted(devices, true, |mounted, _| {
        let base = mounted.bases().find(|b| b.tree == tree).unwrap();
        check::check(mounted.nodes(), &base, Depth::Tree, &mut found).unwrap();
    });
    found.0
}
