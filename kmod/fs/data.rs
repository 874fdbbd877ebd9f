// SPDX-License-Identifier: GPL-2.0

//! What files hold: the page cache's questions, put to the engine.

use crate::{
    embrfs::Embrfs,
    host::{
        Host,
        Shown, //
    },
    names::taking,
    volume::Volume, //
};
use core::ops::Range;
use embr_engine::{
    file::{
        self as engine,
        Rest,
        Way, //
    },
    names::{
        self,
        Files, //
    },
    space::promise::Promise,
    units::{
        Bytes,
        FileBlock,
        InodeNo,
        Timestamp,
        BLOCK_SIZE, //
    },
};
use embr_rt::{
    time::{
        sleep,
        Duration, //
    },
    Patience, //
};
use embr_vfs::{
    data::{
        Allocation,
        Dirty,
        FileData,
        GatherMemory,
        Holds,
        Written, //
    },
    inode::{
        Inode,
        Time, //
    },
};
use kernel::prelude::*;

/// What somebody waits for goes into the tree if it is no more than this.
const SMALL: usize = 64 * 1024;
/// Files of one block always do.
const TINY: u64 = BLOCK_SIZE as u64;
/// How long to wait for memory before trying again.
const PAUSE: Duration = Duration::from_millis(10);

fn number(file: &Inode<Embrfs>) -> InodeNo {
    InodeNo(file.number())
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp {
        seconds: time.seconds,
        nanos: time.nanos,
    }
}

fn now(file: &Inode<Embrfs>) -> Timestamp {
    timestamp(file.attributes().changed)
}

fn block(at: u64) -> FileBlock {
    FileBlock::of(Bytes(at))
}

/// How these blocks are best written.
fn way(file: &Inode<Embrfs>, dirty: Dirty<'_>, written: &Written) -> Way {
    let bytes: usize = dirty.ranges().map(|(_, bytes)| bytes.len()).sum();
    let tiny = file.attributes().size as u64 <= TINY;
    match tiny || (written.at_once && bytes <= SMALL) {
        true => Way::Inline,
        false => Way::Sealed,
    }
}

#[inline(never)]
fn write(
    file: &Inode<Embrfs>,
    blocks: &[engine::Dirty<'_>],
    way: Way,
    noted: &engine::Written,
    mut room: Option<Promise>,
) -> Result {
    let volume = file.volume();
    let mut rest = Rest::new(blocks);
    // Some of it may be lost with a device.
    volume.top_up(&mut room, rest.blocks());
    let mut room = room.filter(|room| room.blocks() >= rest.blocks());
    let mut patience = None;
    loop {
        let done = match &mut room {
            Some(room) => apart(volume, |files| {
                files.write_under(number(file), &mut rest, way, noted, room)
            }),
            // Memory that a device wrote to behind our back, or nothing but a size.
            None => apart(volume, |files| {
                files.write(number(file), blocks, way, noted)
            }),
        };
        match done {
            // What was accepted is not lost for lack of memory. From the second time on it is waited for where it is asked for.
            Err(error) if error == ENOMEM => {
                patience = patience.or_else(|| Some(Patience::new()));
                sleep(PAUSE);
                volume.top_up(&mut room, rest.blocks());
            }
            done => return done,
        }
    }
}

/// What was accepted cannot be written: whoever waits for it hears of it, and so does who reads the log.
#[inline(never)]
fn complain(file: &Inode<Embrfs>, error: Error) -> Error {
    let volume = file.volume();
    if error != ENOMEM && volume.check().is_ok() && volume.may_complain() {
        pr_err!(
            "volume {}: bytes of file {} could not be written and are lost: {:?}\n",
            Shown(volume.engine.uuid()),
            file.number(),
            error
        );
    }
    error
}

/// Changes a file in a frame of its own: what an operation returns is large, and stacks are small.
#[inline(never)]
fn apart<R>(
    volume: &Volume,
    change: impl FnOnce(Files<'_, Host>) -> Result<R, names::Error>,
) -> Result {
    volume.with(change).map(drop)
}

impl FileData for Embrfs {
    fn may_use(file: &Inode<Self>) -> Result {
        file.volume().check()
    }

    fn may_change(file: &Inode<Self>) -> Result {
        file.volume().check_writable()
    }

    fn memory(volume: &Self::Volume) -> Option<&GatherMemory> {
        volume.gather_memory()
    }

    fn read(file: &Inode<Self>, at: u64, into: &mut [u8]) -> Result {
        let volume = file.volume();
        volume.with(|files| files.read(number(file), block(at), into))
    }

    #[inline(never)]
    fn write(file: &Inode<Self>, dirty: Dirty<'_>, written: &Written) -> Result {
        let nothing = engine::Dirty {
            at: FileBlock(0),
            bytes: &[],
        };
        let mut blocks = [nothing; Dirty::RANGES];
        let mut count = 0;
        for (to, (at, bytes)) in blocks.iter_mut().zip(dirty.ranges()) {
            *to = engine::Dirty {
                at: block(at),
                bytes,
            };
            count += 1;
        }
        let blocks = blocks.get(..count).unwrap_or(&[]);
        let noted = engine::Written {
            size: written.size.map(Bytes),
            modified: Some(timestamp(written.modified)),
            changed: Some(timestamp(written.changed)),
        };
        let way = way(file, dirty, written);
        let room = file.volume().take_room(written.room);
        write(file, blocks, way, &noted, room).map_err(|error| complain(file, error))
    }

    fn truncate(file: &Inode<Self>, size: u64) -> Result {
        let volume = file.volume();
        apart(volume, |files| {
            files.truncate(number(file), Bytes(size), now(file))
        })
    }

    #[inline(never)]
    fn allocate(
        file: &Inode<Self>,
        what: Allocation,
        range: Range<u64>,
        size: Option<u64>,
    ) -> Result {
        let (from, to) = (Bytes(range.start), Bytes(range.end));
        let (first, end) = (block(range.start), block(range.end));
        let (size, file_no, now) = (size.map(Bytes), number(file), now(file));
        let volume = file.volume();
        match what {
            Allocation::Reserve => taking(file, |files| {
                files.preallocate(file_no, first, end, size, now)
            })
            .map(drop),
            Allocation::Punch => apart(volume, |files| files.punch(file_no, from, to, now)),
            Allocation::Zero => apart(volume, |files| files.zero(file_no, from, to, size, now)),
            Allocation::Collapse => apart(volume, |files| files.collapse(file_no, first, end, now)),
            Allocation::Insert => apart(volume, |files| {
                files.insert(file_no, first, end.0 - first.0, now)
            }),
        }
    }

    fn holds(file: &Inode<Self>, at: u64, most: u64) -> Result<(Holds, u64)> {
        let first = block(at);
        let volume = file.volume();
        let pieces = volume.with(|files| files.pieces(number(file), first, first.plus(most), 1))?;
        Ok(match pieces.first() {
            None => (Holds::Nothing, most),
            Some(piece) => {
                let holds = match piece.holds {
                    engine::Holds::Hole => Holds::Nothing,
                    engine::Holds::Unwritten => Holds::Room,
                    engine::Holds::Inline | engine::Holds::Raw => Holds::Bytes,
                };
                (holds, piece.blocks.0)
            }
        })
    }

    fn held(file: &Inode<Self>) -> Result<u64> {
        let inode = file.volume().with(|files| files.inode(number(file)))?;
        Ok(inode.entries)
    }

    fn reserve(file: &Inode<Self>, blocks: u64) -> Result {
        file.volume().reserve(blocks)
    }

    fn give_back(file: &Inode<Self>, blocks: u64) {
        file.volume().give_back(blocks);
    }

    fn make_room(volume: &Self::Volume) -> Result {
        volume.make_room()
    }
}
