// SPDX-License-Identifier: GPL-2.0

//! How much of a file's data is to survive, and that it does: no block that a file names survives less than the file is to. What shares a
//! block gets it as the strongest of them wants it.

use super::window::Windows;
use super::END;
use crate::format::engram;
use crate::format::engram::Map;
use crate::format::geometry::Policy;
use crate::format::inode::FileType;
use crate::names::change::Change;
use crate::names::Done;
use crate::names::Error;
use crate::names::Files;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;
use crate::volume::mounted::ENGRAMS;
use embr_rt::Vec;

/// How often it is tried again when others write, or move, what is in the way.
const TRIES: usize = 8;

impl<M: Machine> Files<'_, M> {
    /// What a file holds is to survive this much from now on, what it holds already included; what is made in a directory from now on has
    /// the directory's. Where more is to survive, all is written anew that does not: it may find no room, and then nothing is changed
    /// but where some of it lies.
    ///
    /// Nobody changes the file meanwhile. Called with no lock held.
    #[inline(never)]
    pub fn set_policy(
        &self,
        file: InodeNo,
        policy: Policy,
        now: Timestamp,
    ) -> Result<Done<()>, Error> {
        let inode = self.inode(file)?;
        match inode.kind {
            FileType::Regular | FileType::Directory => {}
            _ => return Err(Error::Invalid),
        }
        if inode.kind == FileType::Regular {
            self.settle(file)?;
        }
        for _ in 0..TRIES {
            if let Some(done) = self.set_policy_once(file, policy, now)? {
                return Ok(done);
            }
            self.with_room(|| self.strengthen(file, (FileBlock(0), END), policy))?;
        }
        Err(Error::NoSpace)
    }

    /// None where something that the file names survives less.
    #[inline(never)]
    fn set_policy_once(
        &self,
        file: InodeNo,
        policy: Policy,
        now: Timestamp,
    ) -> Result<Option<Done<()>>, Error> {
        let mut change = Change::begin_freeing(*self, now)?;
        let inode = change.inode(file)?;
        let is_asked = inode.kind == FileType::Regular;
        let all = (FileBlock(0), END);
        if is_asked && self.first_weak(file, all, policy)?.is_some() {
            return Ok(None);
        }
        let inode = change.inode_mut(file)?;
        inode.policy = policy;
        inode.changed = now;
        change.commit_alone(()).map(Some)
    }

    fn losses(&self, policy: Policy) -> u8 {
        policy.losses(self.mounted.geometry())
    }

    /// Does what names blocks of one file in another, which may want them to survive more.
    #[inline(never)]
    pub(super) fn with_strength<T>(
        &self,
        (from, range): (InodeNo, (FileBlock, FileBlock)),
        to: InodeNo,
        mut act: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..TRIES {
            match act() {
                Err(Error::Weak(_)) => {}
                done => return done,
            }
            let policy = self.inode(to)?.policy;
            self.strengthen(from, range, policy)?;
        }
        Err(Error::NoSpace)
    }

    /// Everything that a file names there survives this much afterwards.
    #[inline(never)]
    fn strengthen(
        &self,
        file: InodeNo,
        range: (FileBlock, FileBlock),
        policy: Policy,
    ) -> Result<(), Error> {
        let (mut from, to) = range;
        while let Some((engram, at)) = self.first_weak(file, (from, to), policy)? {
            self.strengthen_one(engram, policy)?;
            from = at;
        }
        Ok(())
    }

    /// The first engram that the file names there of which less survives, and the block where it does.
    #[inline(never)]
    fn first_weak(
        &self,
        file: InodeNo,
        (from, to): (FileBlock, FileBlock),
        policy: Policy,
    ) -> Result<Option<(EngramId, FileBlock)>, Error> {
        let mut windows = Windows::new(*self, file, from, to)?;
        let mut last = EngramId::NONE;
        while let Some(window) = windows.next()? {
            for (block, n) in window.blocks(from, to) {
                let Some(at) = window.cell(n).state.at() else {
                    continue;
                };
                if at.engram != last && self.is_weak(at.engram, policy)? {
                    return Ok(Some((at.engram, block)));
                }
                last = at.engram;
            }
        }
        Ok(None)
    }

    /// Whether less of an engram is to survive.
    pub(super) fn is_weak(&self, engram: EngramId, policy: Policy) -> Result<bool, Error> {
        let wanted = self.losses(policy);
        // Mostly nothing is asked of anybody.
        Ok(wanted != 0 && self.losses(self.mounted.map(engram)?.policy) < wanted)
    }

    /// An engram survives this much afterwards.
    #[inline(never)]
    fn strengthen_one(&self, engram: EngramId, policy: Policy) -> Result<(), Error> {
        for _ in 0..TRIES {
            let map = match self.mounted.map(engram) {
                // Nobody names it any more.
                Err(why) if why.is_damage() => return Ok(()),
                map => map?,
            };
            let is_done = match map.is_copied() {
                true if self.copy_more(engram, Some(policy))? => true,
                true => return Err(Error::NoSpace),
                false => self.seal_all(engram, &map, policy)?,
            };
            if is_done {
                return Ok(());
            }
        }
        Err(Error::NoSpace)
    }

    /// Writes all stripes that have some of it anew, with as much parity. Says whether all have it: one may have been moved meanwhile.
    #[inline(never)]
    fn seal_all(&self, engram: EngramId, map: &Map, policy: Policy) -> Result<bool, Error> {
        let mut stripes = Vec::new();
        for piece in map.pieces().iter() {
            if !stripes.contains(&piece.stripe) {
                stripes.push(piece.stripe)?;
            }
        }
        for stripe in stripes.iter() {
            let layout = match self.mounted.layout(*stripe) {
                Err(why) if why.is_damage() => return Ok(false),
                layout => layout?,
            };
            let is_enough = layout.shape.parity() >= usize::from(self.losses(policy));
            if !is_enough && !self.seal_again(*stripe, Some(policy))? {
                return Ok(false);
            }
        }
        self.say_stronger(engram, policy)
    }

    /// From now on what moves it keeps to this, if it lies so.
    #[inline(never)]
    fn say_stronger(&self, engram: EngramId, policy: Policy) -> Result<bool, Error> {
        let mut change = Change::begin_freeing(*self, Timestamp::default())?;
        let mut map = match self.mounted.map(engram) {
            Err(why) if why.is_damage() => return Ok(true),
            map => map?,
        };
        let wanted = usize::from(self.losses(policy));
        if map.is_copied() {
            return Ok(false);
        }
        for piece in map.pieces().iter() {
            if self.mounted.layout(piece.stripe)?.shape.parity() < wanted {
                return Ok(false);
            }
        }
        map.policy = map.policy.stronger(policy, self.mounted.geometry());
        let key = engram::key(engram, engram::Kind::Map, 0);
        change.txn().set(ENGRAMS, key, &map.encode()?)?;
        change.commit_alone(()).map(|_| true)
    }
}
