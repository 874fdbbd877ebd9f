// SPDX-License-Identifier: GPL-2.0

//! Short [sequences](crate::deed) of operations on a volume that was made once, in the manner of ACE: recorded, cut short, recovered, and
//! compared with what the [model](crate::estate) had after one of them. Those of one and two operations are few enough to be
//! gone through completely; of longer ones some are drawn.

use crate::clerk;
use crate::contents;
use crate::contents::Copies;
use crate::deed;
use crate::deed::Deed;
use crate::deed::Kind;
use crate::deed::Sequence;
use crate::deed::DIRECTORIES;
use crate::estate::Engine;
use crate::estate::Estate;
use crate::files::File;
use crate::files::ROOT;
use crate::fleet::Fleet;
use crate::host::Chance;
use crate::image::step;
use crate::inspector;
use crate::machine;
use crate::machine::Simulated;
use crate::recording;
use crate::recording::Recording;
use crate::recording::Snapshot;
use crate::recording::State;
use crate::roots;
use crate::seen::Seen;
use crate::tale::Look;
use embr_engine::check::Depth;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::inode::FileType;
use embr_engine::format::member::Slot;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::units::Sequence as Group;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::Arc;
use std::fmt;

/// Drives of a volume, and what is on it in the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scene {
    /// What a stripe is made of. There is a drive for each of its fragments.
    pub bundle: Geometry,
    /// What there is to begin with.
    pub begins: Beginning,
}

/// What a volume begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// Two directories.
    Bare,
    /// Files in them, too.
    Furnished,
    /// These in a snapshot, and two heads that went on from it.
    Kept,
}

impl Beginning {
    /// All of them.
    pub const ALL: [Beginning; 3] = [Beginning::Bare, Beginning::Furnished, Beginning::Kept];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Beginning::Bare => "bare",
            Beginning::Furnished => "furnished",
            Beginning::Kept => "kept",
        }
    }
}

impl Scene {
    /// One with files to begin with. What is no bundle is none here either: everything on one drive.
    pub const fn furnished(data: u8, parity: u8) -> Self {
        let bundle = match (Geometry::new(data, parity), Geometry::new(1, 0)) {
            (Ok(bundle), _) | (_, Ok(bundle)) => bundle,
            _ => panic!("1+0 is a bundle"),
        };
        Scene {
            bundle,
            begins: Beginning::Furnished,
        }
    }

    /// The same without files.
    const fn bare(data: u8, parity: u8) -> Self {
        Scene {
            begins: Beginning::Bare,
            ..Scene::furnished(data, parity)
        }
    }

    /// The same with a snapshot of these files, and another head.
    pub const fn kept(data: u8, parity: u8) -> Self {
        Scene {
            begins: Beginning::Kept,
            ..Scene::furnished(data, parity)
        }
    }
}

/// Where every sequence is tried.
pub const SCENES: [Scene; 7] = [
    Scene::furnished(1, 0),
    Scene::furnished(1, 1),
    Scene::bare(1, 0),
    Scene::bare(1, 1),
    Scene::furnished(2, 1),
    Scene::kept(1, 0),
    Scene::kept(2, 1),
];
/// Larger ones, where crowds work and storms come.
pub const WIDE: [Scene; 2] = [Scene::furnished(1, 2), Scene::furnished(4, 2)];

/// What there is in the beginning, so that each operation finds something: a file of raw blocks; one of blocks in the tree, with a
/// hole, with its end within a block, and with an attribute; an empty directory.
const FURNITURE: &str =
    "create A/x; write A/x 1; write A/x 0; create B/x; inline B/x 0; inline B/x 2; attribute B/x 1; mkdir B/y";

/// And then a snapshot, of which both heads have something else by now.
const KEPT: &str = "; take s; write A/x 1; inline B/x 0; rmdir B/y; grow s; turn; unlink A/x; attribute B/x 0; turn";

/// To look, and write nothing.
pub(crate) const READ_ONLY: Options = Options {
    read_only: true,
    ..machine::READ_WRITE
};

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.bundle, self.begins.name())
    }
}

/// A volume that was made, for many sequences to begin with.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its drives, and what is on it.
    pub scene: Scene,
    snapshot: Snapshot,
    estate: Estate,
}

/// A mounted volume, and beside it what it should hold.
pub(crate) struct Actor<'m> {
    mounted: &'m Mounted<Simulated>,
    names: Names,
    view: Arc<View>,
    /// What it should hold.
    pub estate: Estate,
    /// The group of each deed so far; for those that changed nothing that of the one before.
    groups: Vec<Group>,
    /// The deed that changed each file of a head last.
    changed: Vec<((String, u64), usize)>,
    /// The newest step: what it writes and when.
    pub step: u64,
}

/// Why a deed was not done.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The engine says why.
    Engine(Error),
    /// The engine and the model do not agree.
    Wrong(String),
}

impl From<Error> for Failed {
    fn from(why: Error) -> Self {
        Failed::Engine(why)
    }
}

impl From<Fault> for Failed {
    fn from(why: Fault) -> Self {
        Failed::Engine(why.into())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Engine(why) => why.fmt(f),
            Failed::Wrong(why) => f.write_str(why),
        }
    }
}

impl<'m> Actor<'m> {
    pub fn new(mounted: &'m Mounted<Simulated>, estate: Estate, step: u64) -> Result<Self, String> {
        let names = names()?;
        let view = names.open(mounted, estate.head.as_bytes());
        let view = view.map_err(|why| why.to_string())?;
        Ok(Actor {
            mounted,
            names,
            view,
            estate,
            groups: Vec::new(),
            changed: Vec::new(),
            step,
        })
    }

    pub fn files(&self) -> Files<'_, Simulated> {
        self.engine().files()
    }

    fn engine(&self) -> Engine<'_> {
        Engine {
            mounted: self.mounted,
            names: &self.names,
            view: &self.view,
        }
    }

    /// What the volume holds.
    pub fn found(&self) -> Result<Estate, String> {
        Estate::found(self.mounted, &self.names)
    }

    /// Does one thing to both; the engine is not to fail. Returns how many deeds are durable now, if this made any so.
    pub fn act(&mut self, deed: Deed) -> Result<Option<usize>, String> {
        self.try_to(deed).map_err(|why| format!("{deed}: {why}"))
    }

    /// Does one thing to both. Where the engine fails, the model is as it was.
    pub fn try_to(&mut self, deed: Deed) -> Result<Option<usize>, Failed> {
        self.step += 1;
        let outcome = self.estate.perform(self.engine(), deed, self.step)?;
        let other = match deed {
            Deed::Turn => {
                Some((self.names).open(self.mounted, self.estate.other_head().as_bytes())?)
            }
            _ => None,
        };
        let made = outcome.made.unwrap_or(0);
        let before = self.estate.clone();
        self.estate
            .apply(deed, self.step, made)
            .map_err(|why| Failed::Wrong(format!("done, by the model {why:?}")))?;
        let number = self.groups.len();
        for (file, now) in &self.estate.files.files {
            let same = before.files.files.get(file) == Some(now)
                && before.bytes.get(file) == self.estate.bytes.get(file);
            if !same && before.head == self.estate.head {
                let which = (before.head.clone(), *file);
                self.changed.retain(|(known, _)| *known != which);
                self.changed.push((which, number));
            }
        }
        self.view = other.unwrap_or(self.view.clone());
        let last = self.groups.last().copied().unwrap_or(Group(0));
        self.groups.push(outcome.group.unwrap_or(last));
        let durable = self.persist(deed);
        if durable.is_err() {
            self.groups.pop();
        }
        durable
    }

    /// Makes durable what the deed says. It changes nothing else.
    fn persist(&self, deed: Deed) -> Result<Option<usize>, Failed> {
        match deed {
            Deed::Fsync(_) | Deed::FsyncHeld => {
                let file = match deed {
                    Deed::Fsync(path) => self.estate.file(path),
                    _ => self.estate.held_file(),
                };
                let file = file.map_err(|why| Failed::Wrong(format!("by the model {why:?}")))?;
                let which = (self.estate.head.clone(), file);
                let Some((_, last)) = self.changed.iter().find(|(known, _)| *known == which) else {
                    return Ok(None);
                };
                let group = self.groups[*last];
                self.mounted.sync_to(group)?;
                Ok(Some(self.groups.iter().filter(|g| **g <= group).count()))
            }
            Deed::Sync => {
                self.mounted.sync()?;
                Ok(Some(self.groups.len()))
            }
            Deed::Checkpoint => {
                self.mounted.checkpoint()?;
                Ok(Some(self.groups.len()))
            }
            _ => Ok(None),
        }
    }

    pub fn sync(&self) -> Result<usize, String> {
        self.mounted.sync().map_err(|why| format!("sync: {why}"))?;
        Ok(self.groups.len())
    }

    /// Whether both are the same.
    pub fn compare(&self) -> Result<(), String> {
        let found = self.found()?;
        self.estate.difference(&found).map_or(Ok(()), Err)
    }

    /// What the model refuses the engine refuses, for the same reason. Says how much that was.
    fn refusals(&self) -> Result<u64, String> {
        let mut count = 0;
        for deed in deed::all() {
            let Err(expected) = self.estate.clone().apply(deed, 0, u64::MAX) else {
                continue;
            };
            count += 1;
            match self.estate.perform(self.engine(), deed, 0) {
                Err(why) if clerk::refused(why)? == expected => {}
                other => return Err(format!("{deed}: {other:?}, by the model {expected:?}")),
            }
        }
        self.compare()
            .map_err(|why| format!("after refusals: {why}"))?;
        Ok(count)
    }
}

/// A sequence that was played, and what it left.
pub struct Story {
    recording: Recording,
    /// What there was after each deed; the first entry is the beginning.
    lefts: Vec<Estate>,
    /// What the last deed was.
    pub kind: Kind,
    /// Where the last deed began: shorter sequences have the crashes before.
    from: u64,
}

impl Stage {
    /// Makes the volume.
    pub fn new(scene: Scene) -> Result<Self, String> {
        let drives = scene.bundle.width().into();
        let fleet = Fleet::new(1, &vec![Bytes(32 << 20); drives]);
        machine::make(1, &fleet, scene.bundle)?;
        let mounted = machine::mount(2, &fleet, machine::READ_WRITE)?;
        let mut actor = Actor::new(&mounted, Estate::new(), 0)?;
        let failed = |why: Error| why.to_string();
        actor.files().format(&clerk::root()).map_err(failed)?;
        for name in DIRECTORIES {
            let root = clerk::root();
            let new = New {
                what: What::Directory,
                ..root
            };
            let made = (actor.files())
                .create(InodeNo::ROOT, name.as_bytes(), &new)
                .map_err(failed)?;
            let mut file = File::new(FileType::Directory, root.now);
            file.permissions = root.permissions;
            let files = &mut actor.estate.files;
            files
                .create(ROOT, name.as_bytes(), made.what.number.0, file)
                .map_err(|why| format!("{why:?}"))?;
        }
        let furniture = match scene.begins {
            Beginning::Bare => String::new(),
            Beginning::Furnished => FURNITURE.into(),
            Beginning::Kept => format!("{FURNITURE}{KEPT}"),
        };
        if !furniture.is_empty() {
            let furniture: Sequence = furniture.parse().map_err(|_| "furniture")?;
            for deed in furniture.0 {
                actor.act(deed)?;
            }
        }
        actor.compare()?;
        let estate = actor.estate;
        mounted.close().map_err(|why| why.to_string())?;
        Ok(Stage {
            scene,
            snapshot: fleet.snapshot(),
            estate,
        })
    }

    /// What the volume holds in the beginning.
    pub fn estate(&self) -> &Estate {
        &self.estate
    }

    /// The drives in the beginning.
    pub fn fleet(&self, seed: u64) -> Fleet {
        Fleet::start(seed, &self.snapshot)
    }

    /// Every sequence of one deed and of two of which nothing is refused, and some of files that are used without a name.
    pub fn complete(&self) -> Vec<Sequence> {
        let deeds = deed::all();
        let mut all = Vec::new();
        for first in deeds.iter().filter(|deed| self.estate.allows(**deed)) {
            all.push(Sequence(vec![*first]));
            let mut estate = self.estate.clone();
            let made = estate.apply(*first, 1, 1 << 40);
            let then = deeds.iter().filter(|deed| estate.allows(**deed));
            if made.is_ok() {
                all.extend(then.map(|second| Sequence(vec![*first, *second])));
            }
        }
        let orphans = deed::of_orphans().into_iter();
        all.extend(orphans.filter(|sequence| self.estate.allows_all(sequence)));
        all
    }

    /// Whether something of this kind can be done before anything else.
    pub fn begins_with(&self, kind: Kind) -> bool {
        let mut all = deed::by_kind().iter().flatten();
        all.any(|deed| self.estate.allows(*deed) && self.estate.kind(*deed) == kind)
    }

    /// A sequence of so many deeds, of which nothing is refused, the last of this kind if that can be.
    pub fn drawn(&self, chance: &Chance, length: usize, last: Kind) -> Sequence {
        let mut estate = self.estate.clone();
        let mut deeds = Vec::new();
        let needed = last.needs();
        while deeds.len() < length {
            let is_last = deeds.len() + 1 == length;
            let is_next = deeds.len() + 2 == length;
            let wanted = |kind: Kind| match needed {
                _ if is_last => kind == last,
                None => true,
                Some(needed) if is_next => kind == needed,
                // For there to be something to hold, and nothing held too early.
                Some(_) => kind == Kind::Create,
            };
            let mut deed = draw(chance, &estate);
            for _ in 0..2000 {
                if wanted(estate.kind(deed)) {
                    break;
                }
                deed = draw(chance, &estate);
            }
            deeds.push(deed);
            // It is among those that are allowed.
            let _ = estate.apply(deed, 1, (1 << 40) + deeds.len() as u64);
        }
        Sequence(deeds)
    }

    /// Plays a sequence and then makes all of it durable.
    pub fn play(&self, sequence: &Sequence) -> Result<Story, String> {
        let fleet = self.fleet(3);
        // Whether anything is discarded follows from the seed.
        let seed = sequence.to_string().bytes().map(u64::from).fold(4, step);
        let mounted = machine::mount(seed, &fleet, machine::READ_WRITE)?;
        fleet.record();
        let mut actor = Actor::new(&mounted, self.estate.clone(), 100)?;
        let mut lefts = vec![self.estate.clone()];
        let mut from = 0;
        let mut kind = Kind::Sync;
        for (number, deed) in (1..).zip(&sequence.0) {
            from = fleet.position();
            kind = actor.estate.kind(*deed);
            // Noted before: from here on it may be there.
            fleet.note(recording::begun(number));
            if let Some(durable) = actor.act(*deed)? {
                fleet.note(recording::durable(durable));
            }
            lefts.push(actor.estate.clone());
        }
        fleet.note(recording::durable(actor.sync()?));
        let recording = fleet.recorded();
        actor.compare()?;
        if sequence.0.len() == 1 {
            actor.refusals()?;
        }
        contents::audit(&mounted)?;
        Ok(Story {
            recording,
            lefts,
            kind,
            from,
        })
    }

    /// Whether a volume that this crash left is one that may be left.
    pub fn check(
        &self,
        story: &Story,
        seed: u64,
        state: &State,
        look: Look,
    ) -> Result<Seen, String> {
        let mut seen = Seen::default();
        let snapshot = story.recording.at(state).ok_or("no such state")?;
        let bounds = story.recording.bounds(state.cut);
        let fleet = Fleet::start(seed, &snapshot);
        if look.read_only {
            let before = fleet.snapshot();
            let mounted = machine::mount(seed, &fleet, READ_ONLY)
                .map_err(|why| format!("read-only: {why}"))?;
            story
                .judge(&mounted, bounds, true)
                .map_err(|why| format!("read-only: {why}"))?;
            drop(mounted);
            if fleet.snapshot() != before {
                return Err("a read-only mount wrote".into());
            }
        }
        for lost in look.without.of(&snapshot, self.scene.bundle.parity()) {
            let met = self.without(story, seed, &snapshot, &lost, (bounds, look.go_on));
            seen.merge(&met.map_err(|why| format!("without drives {lost:?}: {why}"))?);
        }
        if look.older_root {
            self.of_older_root(story, seed, &snapshot, (bounds, true))
                .map_err(|why| format!("without the newest root: {why}"))?;
        }
        fleet.record();
        let mounted = machine::mount(seed, &fleet, machine::READ_WRITE)?;
        let left = story.judge(&mounted, bounds, true)?;
        seen.kept = u64::from(!left.kept.is_empty());
        contents::audit(&mounted)?;
        let recovery = fleet.recorded();
        if look.go_on {
            go_on(&fleet, &mounted, &left, Copies::All, seed)
                .map_err(|why| format!("going on: {why}"))?;
        }
        let chance = Chance::new(seed);
        for _ in 0..look.again {
            let cut = chance.next() % (recovery.end() + 1);
            let state = State::new(cut, crate::cache::Survival::Subset(chance.next()));
            let within = |why| format!("crashed again in the recovery, {state}: {why}");
            let again = recovery.at(&state).ok_or("no such state")?;
            self.of_older_root(story, seed, &again, (bounds, false))
                .map_err(|why| within(format!("without the newest root: {why}")))?;
            let fleet = Fleet::start(seed, &again);
            let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).map_err(within)?;
            story.judge(&mounted, bounds, false).map_err(within)?;
            contents::audit(&mounted).map_err(within)?;
        }
        Ok(seen)
    }

    /// The same crash, and no drive has the newest root any more.
    fn of_older_root(
        &self,
        story: &Story,
        seed: u64,
        snapshot: &Snapshot,
        (bounds, is_first): ((usize, usize), bool),
    ) -> Result<(), String> {
        let fleet = Fleet::start(seed, snapshot);
        if !roots::lose_newest(&fleet, seed)? {
            return Ok(());
        }
        // As fsck does, and as who works on.
        story.judge(&machine::inspect(seed, &fleet)?, bounds, is_first)?;
        let mounted = machine::mount(seed, &fleet, machine::READ_WRITE)?;
        story.judge(&mounted, bounds, is_first)?;
        contents::audit(&mounted).map(|_| ())
    }

    /// The same crash, and some drives did not come back from it. Who writes goes on without them.
    fn without(
        &self,
        story: &Story,
        seed: u64,
        snapshot: &Snapshot,
        lost: &[Slot],
        (bounds, goes_on): ((usize, usize), bool),
    ) -> Result<Seen, String> {
        let mut seen = Seen::default();
        for options in [READ_ONLY, machine::READ_WRITE] {
            let fleet = Fleet::start(seed, snapshot);
            lost.iter().for_each(|slot| fleet.vanish(*slot));
            let mounted = machine::mount(seed, &fleet, options)?;
            let left = story.judge(&mounted, bounds, true)?;
            if !options.read_only {
                contents::audit_but(&mounted, Copies::MayLack)?;
            }
            seen.rebuilt += contents::rebuilt(&mounted)?;
            if goes_on && !options.read_only {
                seen.degraded += 1;
                go_on(&fleet, &mounted, &left, Copies::MayLack, seed)
                    .map_err(|why| format!("going on: {why}"))?;
            }
        }
        Ok(seen)
    }
}

/// A deed that these files allow. Kinds are drawn first.
pub(crate) fn draw(chance: &Chance, estate: &Estate) -> Deed {
    let by_kind = deed::by_kind();
    loop {
        let kind = &by_kind[chance.below(by_kind.len())];
        // Some kinds are allowed in few places, or in none.
        for _ in 0..8 {
            let deed = chance.one(kind);
            if estate.allows(deed) {
                return deed;
            }
        }
    }
}

/// After a crash, all goes on as if there had been none.
pub(crate) fn go_on(
    fleet: &Fleet,
    mounted: &Mounted<Simulated>,
    left: &Estate,
    copies: Copies,
    seed: u64,
) -> Result<(), String> {
    let chance = Chance::new(seed ^ 0x0067_6f20_6f6e);
    let mut actor = Actor::new(mounted, left.clone(), 200)?;
    for _ in 0..3 {
        let deed = draw(&chance, &actor.estate);
        actor.act(deed)?;
    }
    actor.compare()?;
    contents::audit_but(mounted, copies)?;
    actor.sync()?;
    let later = Fleet::start(seed, &fleet.snapshot());
    let mounted = machine::mount(seed ^ 1, &later, machine::READ_WRITE)?;
    Actor::new(&mounted, actor.estate.clone(), 300)?.compare()?;
    contents::audit_but(&mounted, copies).map(|_| ())
}

impl Story {
    /// What happened to the drives.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The crashes that shorter sequences do not have, by a plan; never one twice that leaves the same and may leave the same.
    pub fn states(&self, plan: crate::states::Plan) -> impl Iterator<Item = State> + '_ {
        let mut seen = std::collections::HashSet::new();
        let new = move |state: &State| {
            state.cut >= self.from
                && self.recording.at(state).is_some_and(|left| {
                    seen.insert((left.fingerprint(), self.recording.bounds(state.cut)))
                })
        };
        self.recording.states(plan).filter(new)
    }

    /// Has a mount that writes do what was left to it. What there is then: what one of the deeds left that may have been the last.
    /// Where an earlier mount got that far, what nobody used may be gone already.
    fn judge(
        &self,
        mounted: &Mounted<Simulated>,
        (durable, committed): (usize, usize),
        is_first: bool,
    ) -> Result<Estate, String> {
        let names = names()?;
        match mounted.is_read_only() {
            true => {
                let view = names.open(mounted, b"").map_err(|why| why.to_string())?;
                let files = names.of(mounted, &view);
                inspector::check(mounted, Some(files), Depth::Copies, &[])?;
            }
            false => drop(each_head(mounted, &names, |files| files.resume())?),
        }
        let found = Estate::found(mounted, &names)?;
        let named = found.clone().without_orphans();
        let is_it = |n: &usize| match is_first {
            // A file may lose its last name first, and all the rest later.
            true => found.may_become(&self.lefts[*n]),
            false => self.lefts[*n].clone().without_orphans() == named,
        };
        let mut allowed = (durable..=committed).rev();
        if !allowed.any(|n| is_it(&n)) {
            return Err(match (0..self.lefts.len()).rfind(is_it) {
                Some(n) => format!("as of deed {n}; {durable} was durable, {committed} begun"),
                None => {
                    let nearest = &self.lefts[committed];
                    let what = nearest.difference(&found).unwrap_or_default();
                    format!("no prefix from {durable} to {committed}: {what}")
                }
            });
        }
        if !mounted.is_read_only() {
            forget_orphans(mounted, &names, &named)?;
        }
        Ok(named)
    }
}

/// Nobody uses files without a name any more: they go, and nothing else does.
pub(crate) fn forget_orphans(
    mounted: &Mounted<Simulated>,
    names: &Names,
    named: &Estate,
) -> Result<(), String> {
    let count = each_head(mounted, names, |files| files.forget_orphans())?;
    // Where there were none, nothing was changed.
    if count == 0 {
        return Ok(());
    }
    let left = Estate::found(mounted, names)?;
    match named.difference(&left) {
        Some(what) => Err(format!("without {count} orphans: {what}")),
        None => Ok(()),
    }
}

/// Does something with the files of each head, as a mount of it does. Says how much there was to do.
pub(crate) fn each_head(
    mounted: &Mounted<Simulated>,
    names: &Names,
    act: impl Fn(Files<'_, Simulated>) -> Result<u64, Error>,
) -> Result<u64, String> {
    let failed = |why: Error| why.to_string();
    let mut count = 0;
    let listed = names.snapshots(mounted).map_err(failed)?;
    for head in listed.iter().filter(|one| one.is_head) {
        let view = names.open(mounted, &head.name).map_err(failed)?;
        count += act(names.of(mounted, &view)).map_err(failed)?;
    }
    Ok(count)
}

/// Names of a volume that was just mounted.
pub(crate) fn names() -> Result<Names, String> {
    Names::try_new(HashWidth::Full).map_err(|why| format!("{why:?}"))
}
