// SPDX-License-Identifier: GPL-2.0

//! The file of a manuscript in all snapshots and heads, beside what the engine has of it: worked on in each head, while snapshots are
//! taken, grown from, deleted and swept.

use crate::host::Chance;
use crate::machine::Simulated;
use crate::scribe::Scribe;
use crate::scribe::Shape;
use crate::scribe::NOW;
use crate::stripes;
use embr_engine::format::member::Members;
use embr_engine::names::Error;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::InodeNo;
use embr_engine::volume::Mounted;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the file is like in each snapshot and head.
pub(super) type Shapes = BTreeMap<String, Arc<Shape>>;
/// What it holds in each.
pub(super) type Contents = BTreeMap<String, Vec<u8>>;

/// So many snapshots and heads there are at most.
const MOST: usize = 5;

fn failed(why: Error) -> String {
    why.to_string()
}

/// Heads have no name, or one like this.
fn is_head(name: &str) -> bool {
    name.is_empty() || name.starts_with('h')
}

/// Operations on files that are half done in this head.
pub(super) fn intents(mounted: &Mounted<Simulated>, view: &View) -> Result<u64, String> {
    let at = |sub| Item::new(InodeNo::NONE, Kind::INTENT, sub);
    let mut items = view.items(mounted, at(0), at(u64::MAX));
    let mut count = 0;
    while items.next().map_err(|why| why.to_string())?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// What the file holds in each snapshot and head of a volume.
pub(super) fn found(
    mounted: &Mounted<Simulated>,
    names: &Names,
    file: InodeNo,
) -> Result<Contents, String> {
    let chance = Chance::new(0);
    let scribe = Scribe::new(&chance, file, 1);
    let mut all = Contents::new();
    for listed in names.snapshots(mounted).map_err(failed)? {
        let name = String::from_utf8_lossy(&listed.name).into_owned();
        if listed.is_head != is_head(&name) {
            return Err(format!("{name} is a head: {}", listed.is_head));
        }
        let view = names.open(mounted, &listed.name).map_err(failed)?;
        let held = scribe.found(names.of(mounted, &view));
        all.insert(name, held.map_err(failed)?);
    }
    Ok(all)
}

/// What each of these is like.
pub(super) fn shapes(contents: &Contents) -> Shapes {
    let of = |(name, bytes): (&String, &Vec<u8>)| (name.clone(), Arc::new(Shape::of(bytes)));
    contents.iter().map(of).collect()
}

struct Held<'c> {
    scribe: Scribe<'c>,
    shape: Arc<Shape>,
}

/// All versions of the file.
pub(super) struct Versions<'c> {
    chance: &'c Chance,
    held: BTreeMap<String, Held<'c>>,
    /// Whether snapshots come and go.
    keeps: bool,
}

impl<'c> Versions<'c> {
    /// Those of a file that holds these; each head is worked on as this one says.
    pub fn new(chance: &'c Chance, like: &Scribe<'c>, contents: Contents, keeps: bool) -> Self {
        let held = contents.into_iter().map(|(name, model)| {
            let shape = Arc::new(Shape::of(&model));
            let mut scribe = like.clone();
            scribe.model = model;
            (name, Held { scribe, shape })
        });
        Versions {
            chance,
            held: held.collect(),
            keeps,
        }
    }

    /// What the file should be like in each.
    pub fn shapes(&self) -> Shapes {
        let of = |(name, held): (&String, &Held<'_>)| (name.clone(), held.shape.clone());
        self.held.iter().map(of).collect()
    }

    /// What it should hold in each.
    pub fn contents(self) -> Contents {
        let of = |(name, held): (String, Held<'_>)| (name, held.scribe.model);
        self.held.into_iter().map(of).collect()
    }

    fn one(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let all: Vec<_> = self.held.keys().filter(|name| wanted(name)).collect();
        (!all.is_empty()).then(|| all[self.chance.below(all.len())].clone())
    }

    /// What grows from this one begins with the same.
    fn copy(&mut self, from: &str, name: String) {
        if let Some(Held { scribe, shape }) = self.held.get(from) {
            let (scribe, shape) = (scribe.clone(), shape.clone());
            self.held.insert(name, Held { scribe, shape });
        }
    }

    /// Takes a snapshot of a head.
    pub fn take(
        &mut self,
        mounted: &Mounted<Simulated>,
        names: &Names,
        (from, name): (&str, String),
    ) -> Result<(), String> {
        let view = names.open(mounted, from.as_bytes()).map_err(failed)?;
        let files = names.of(mounted, &view);
        match files.take_snapshot(name.as_bytes(), NOW) {
            Ok(_) => self.copy(from, name),
            // There is no room for removing under it.
            Err(Error::NoSpace) => {}
            Err(why) => return Err(format!("taking: {}", failed(why))),
        }
        Ok(())
    }

    /// Does one thing. Returns what a crash within it may leave, beside what there was before it; the last is what it comes to.
    pub fn step(
        &mut self,
        mounted: &Mounted<Simulated>,
        names: &Names,
        number: usize,
    ) -> Result<Vec<Shapes>, String> {
        if self.chance.below(14) == 0 {
            self.relocate(mounted, names)?;
            return Ok(vec![self.shapes()]);
        }
        let kind = if self.keeps {
            self.chance.below(12)
        } else {
            12
        };
        let is_full = self.held.len() >= MOST;
        let some_snapshot = self.one(|name| !is_head(name));
        let another = self.one(|name| !name.is_empty());
        match (kind, some_snapshot, another) {
            (0 | 1, ..) if !is_full => {
                let from = self.one(is_head).ok_or("no head")?;
                self.take(mounted, names, (&from, format!("s{number}")))?;
            }
            (2, Some(from), _) if !is_full => {
                let name = format!("h{number}");
                let grown = names.grow(mounted, from.as_bytes(), name.as_bytes(), NOW);
                match grown {
                    Ok(_) => self.copy(&from, name),
                    Err(Error::NoSpace) => {}
                    Err(why) => return Err(format!("growing: {}", failed(why))),
                }
            }
            (0..4, _, Some(name)) => {
                let done = names.delete(mounted, name.as_bytes());
                done.map_err(failed)?;
                self.held.remove(&name);
            }
            (4 | 5, ..) => drop(names.sweep(mounted).map_err(failed)?),
            _ => return self.work(mounted, names),
        }
        Ok(vec![self.shapes()])
    }

    /// A fragment or a copy goes elsewhere.
    fn relocate(&self, mounted: &Mounted<Simulated>, names: &Names) -> Result<(), String> {
        let all = stripes::lodged(mounted)?;
        if all.is_empty() {
            return Ok(());
        }
        let (what, on) = self.chance.one(&all);
        let avoid = match self.chance.below(2) {
            0 => Members::default().with(on),
            _ => Members::default(),
        };
        let view = names.open(mounted, b"").map_err(failed)?;
        match names.of(mounted, &view).relocate(what, avoid) {
            Ok(_) | Err(Error::NoSpace) => Ok(()),
            Err(why) => Err(format!("relocating {what:?} from {on:?}: {}", failed(why))),
        }
    }

    fn work(&mut self, mounted: &Mounted<Simulated>, names: &Names) -> Result<Vec<Shapes>, String> {
        let name = self.one(is_head).ok_or("no head")?;
        let view = names.open(mounted, name.as_bytes()).map_err(failed)?;
        let held = self.held.get_mut(&name).ok_or("no such head")?;
        let (between, done) = held.scribe.step(names.of(mounted, &view));
        done.map_err(failed)?;
        let mut all = Vec::new();
        for shape in between {
            if let Some(held) = self.held.get_mut(&name) {
                held.shape = Arc::new(shape);
            }
            all.push(self.shapes());
        }
        Ok(all)
    }

    /// Deletes all but what the volume shows by itself, and has all of it given back.
    pub fn clear(&mut self, mounted: &Mounted<Simulated>, names: &Names) -> Result<(), String> {
        self.held.retain(|name, _| name.is_empty());
        for listed in names.snapshots(mounted).map_err(failed)? {
            if !listed.name.is_empty() {
                names.delete(mounted, &listed.name).map_err(failed)?;
            }
        }
        while names.sweep(mounted).map_err(failed)? {}
        Ok(())
    }

    /// Compares everything.
    pub fn compare(&self, mounted: &Mounted<Simulated>, names: &Names) -> Result<(), String> {
        let listed = names.snapshots(mounted).map_err(failed)?;
        if listed.len() != self.held.len() {
            return Err(format!("{} snapshots and heads", listed.len()));
        }
        for (name, held) in &self.held {
            let view = names.open(mounted, name.as_bytes()).map_err(failed)?;
            let same = held.scribe.compare(names.of(mounted, &view));
            same.map_err(|why| format!("in '{name}': {why}"))?;
        }
        Ok(())
    }
}
