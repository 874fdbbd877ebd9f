// SPDX-License-Identifier: GPL-2.0

//! Writing blocks of a file into stripes: they are on their devices before a transaction names them.

use super::edit::Edit;
use super::plan::Source;
use super::window::At;
use super::write::owners;
use super::write::put_all;
use crate::engram;
use crate::format::engram::Lies;
use crate::format::engram::Map;
use crate::format::engram::Piece;
use crate::format::geometry::Policy;
use crate::format::member::Members;
use crate::format::stripe::Held;
use crate::names::Error;
use crate::space::promise::Promise;
use crate::stripe::seal::Open;
use crate::stripe::seal::Sealed;
use crate::stripe::seal::Written;
use crate::units::Blocks;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use embr_rt::Vec;

/// Blocks in stripes that no transaction names yet.
pub(crate) struct Striped<'m, 'a, M: Machine> {
    /// How much it is to survive.
    pub(crate) policy: Policy,
    pub(crate) all: Vec<Written<'m, 'a, M>>,
    /// What is in none, as there was no room for one.
    pub(crate) left: Vec<Source<'a>>,
}

impl<'m, 'a, M: Machine> Striped<'m, 'a, M> {
    /// Puts none into stripes.
    pub(crate) fn none(sources: Vec<Source<'a>>, policy: Policy) -> Self {
        Striped {
            policy,
            all: Vec::new(),
            left: sources,
        }
    }

    /// Puts what is left into stripes, as long as there is room for any, and writes these. If it fails they are to be
    /// [given up](Self::give_up) where there is a promise.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn seal(
        &mut self,
        mounted: &'m Mounted<M>,
        mut promise: Option<&mut Promise>,
    ) -> Result<(), Error> {
        let mut bad = Members::default();
        loop {
            self.all.try_reserve(1)?;
            let left = &self.left;
            let these = (left.as_slice(), self.policy);
            let Some(open) = Open::try_new(mounted, these, bad, promise.as_deref_mut())? else {
                return Ok(());
            };
            let rest = behind(left, open.blocks());
            match open.seal(left).and_then(Sealed::write) {
                Ok(written) => {
                    self.all.push(written)?;
                    self.left = rest?;
                }
                Err(spoilt) => {
                    // It begins again elsewhere, narrower if need be: a stripe has all its fragments, or there is none.
                    let refused = spoilt.give_up(promise.as_deref_mut())?;
                    mounted.report(refused);
                    bad = Members(bad.0 | refused.0);
                }
            }
        }
    }

    /// They come to nothing: what was paid for them is promised again.
    pub(super) fn give_up(&mut self, promise: &mut Promise) {
        for written in core::mem::take(&mut self.all) {
            written.give_up(promise);
        }
    }

    /// What the stripes hold is the file's from now on.
    pub(super) fn adopt(&mut self, edit: &mut Edit<'_, '_, M>) -> Result<(), Error> {
        for written in self.all.iter_mut().rev() {
            adopt(edit, written, self.policy)?;
        }
        Ok(())
    }
}

/// All but the first so many blocks.
fn behind<'a>(sources: &[Source<'a>], mut blocks: usize) -> Result<Vec<Source<'a>>, Error> {
    let mut rest = Vec::new();
    for source in sources {
        let (now, later) = source.split(blocks);
        blocks = blocks.saturating_sub(now.blocks());
        if later.blocks() != 0 {
            rest.push(later)?;
        }
    }
    Ok(rest)
}

#[inline(never)] // Its frame is large enough alone.
fn adopt<M: Machine>(
    edit: &mut Edit<'_, '_, M>,
    written: &mut Written<'_, '_, M>,
    policy: Policy,
) -> Result<(), Error> {
    let files = edit.change.files;
    let mut numbers = files.names.engrams.lock();
    let engram = numbers.give(files.mounted)?;
    let stripe = numbers.give_stripe(files.mounted)?;
    drop(numbers);
    let blocks = written.shape().blocks();
    let piece = Piece {
        first: 0,
        blocks,
        stripe,
        at: 0,
    };
    let map = Map {
        blocks,
        policy,
        lies: Lies::Stripes(Vec::try_from_slice(&[piece])?),
    };
    let held = [Held {
        engram,
        first: 0,
        blocks,
    }];
    let owners = owners(written.sources(), edit.file)?;
    let rest = (blocks as u64).saturating_sub(written.paid().0);
    let txn = edit.change.txn();
    engram::create(txn, engram, &map, written.hashes(), &owners)?;
    written.take(txn, stripe, &held, blocks)?;
    put_all(edit, written.sources(), At { engram, block: 0 })?;
    let spent = &mut edit.change.spent;
    *spent = Blocks(spent.0.saturating_add(rest));
    Ok(())
}
