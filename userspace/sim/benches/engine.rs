// SPDX-License-Identifier: GPL-2.0

//! What the engine takes for large things, on one core and devices of memory: 10 million keys in the cache and with a cache of a
//! tenth, a directory of a million names, recovery by the size of the journal. `make bench` runs it; a file named as argument gets the
//! results as ratios to plain things done in the same run.

mod album;
mod bank;
mod full;
mod memory;
mod parity;
mod ram;
mod size;

use embr_engine::env::Device as _;
use embr_engine::env::Hasher as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::layout;
use embr_engine::format::node::NODE_SIZE;
use embr_engine::names::Cookie;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embrfs_host::Simd;
use embrfs_sim::clerk;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use ram::Ram;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

type Plain = BTreeMap<[u64; 3], [u8; 32]>;

const HEAD: &str = "# The engine with much in it, on one core and devices of memory

`make bench` writes this. The figures are ratios: how many times as long as a plain thing done in the same run, by the time that the
thread ran, where a table does not say otherwise. Compare within a table: each is of one run. A key and its value are 56 bytes; each
change is a transaction of its own, made durable together with others, and the checkpoints that come of it are counted in, the last one too.
";

const VALUE: [u8; 32] = [0x5a; 32];
/// Bytes of a key and its value.
const ITEM: f64 = 56.0;
/// More than the journal lets come together.
const DIRTY: Bytes = Bytes(256 << 20);
/// What the kernel module mounts with.
const MODULE_DIRTY: Bytes = Bytes(16 << 20);
const DEVICE: Bytes = Bytes(8 << 30);
const GIB: u64 = 1 << 30;

/// How much of everything: 1 as documented, less to try the program out.
fn scaled(count: u64) -> u64 {
    match std::env::var("EMBRFS_SCALE") {
        Ok(part) => count / part.parse::<u64>().expect("a number"),
        Err(_) => count,
    }
}

/// Files of a thousand items, with a gap behind each item.
fn key(n: u64) -> Key {
    Key([n / 1000, 7, 2 * (n % 1000)])
}

/// In the gap behind that item.
fn between(n: u64) -> Key {
    let Key([file, kind, item]) = key(n);
    Key([file, kind, item + 1])
}

/// How long this thread has run. Nothing here waits, so this is what is meant, also where others use the machine.
fn clock() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("procfs");
    let ran = text.split(' ').next().and_then(|n| n.parse().ok());
    Duration::from_nanos(ran.expect("a number"))
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = clock();
    let result = work();
    (clock() - begin, result)
}

/// Tables of results: with absolute figures on the screen, with ratios in the file.
#[derive(Default)]
struct Report(String);

impl Report {
    fn heading(&mut self, title: &str, last: &str) {
        println!("\n{title}");
        let _ = write!(self.0, "\n## {title}\n\n| | | {last} |\n|---|---:|---:|\n");
    }

    /// A table with these columns, of figures that are ratios already.
    fn table(&mut self, title: &str, columns: &[&str]) {
        println!("\n{title}\n{}", columns.join(" | "));
        let line = "---:|".repeat(columns.len() - 1);
        let head = columns.join(" | ");
        let _ = write!(self.0, "\n## {title}\n\n| {head} |\n|---|{line}\n");
    }

    /// A row of it.
    fn row(&mut self, cells: &[String]) {
        let row = cells.join(" | ");
        println!("{row}");
        let _ = writeln!(self.0, "| {row} |");
    }

    /// What has to be known of a table.
    fn note(&mut self, text: &str) {
        println!("{text}");
        let _ = write!(self.0, "\n{text}\n");
    }

    /// So many things in some time, beside the same by plain means.
    fn rate(&mut self, what: &str, count: u64, time: Duration, plain: Duration, and: &str) {
        let rate = |time: Duration| count as f64 / time.as_secs_f64();
        println!(
            "{what}: {:.0}/s, plain {:.0}/s; {and}",
            rate(time),
            rate(plain)
        );
        let ratio = time.as_secs_f64() / plain.as_secs_f64();
        let _ = writeln!(self.0, "| {what} | {ratio:.2} | {and} |");
    }
}

/// What hashing and writing a MiB takes, one after the other.
fn plain_writing() -> Duration {
    let machine = Ram::new(Bytes(64 << 20), 1);
    let (hasher, group) = (Simd::new(), vec![0x5a; 1 << 20]);
    let write_all = || {
        for n in 0..64 {
            black_box(hasher.hash(&[&group]));
            machine.write(Bytes(n << 20), &group).expect("written");
        }
    };
    // The first time the memory is not there yet.
    write_all();
    timed(|| (0..16).for_each(|_| write_all())).0 / (16 * 64)
}

/// What one wrote that changed so many keys in that time.
fn written(machine: &Ram, count: u64, time: Duration) -> String {
    let traffic = machine.take_traffic();
    let bytes = traffic.journal + traffic.elsewhere;
    let each = |bytes: u64| bytes as f64 / count as f64;
    let plain = plain_writing().as_secs_f64() * bytes as f64 / f64::from(1 << 20);
    format!(
        "{:.0} B journal, {:.0} B nodes: {:.1} times the item; {:.1} times as long as hashing and writing that in a row",
        each(traffic.journal),
        each(traffic.elsewhere),
        each(bytes) / ITEM,
        time.as_secs_f64() / plain
    )
}

/// One transaction, one key.
fn insert(mounted: &Mounted<Ram>, key: Key) {
    let mut txn = mounted.begin().expect("begun");
    txn.set(NAMES, key, &VALUE).expect("set");
    txn.commit().expect("committed");
}

fn insert_all(mounted: &Mounted<Ram>, keys: impl Iterator<Item = Key>) -> Duration {
    let work = || {
        keys.for_each(|key| insert(mounted, key));
        mounted.sync().expect("durable");
    };
    timed(work).0
}

fn look_up(mounted: &Mounted<Ram>, key: Key) {
    let found = mounted.get(NAMES, key, |v| v[0]).expect("a sound tree");
    assert_eq!(black_box(found), Some(VALUE[0]));
}

fn plain_insert_all(plain: &mut Plain, keys: impl Iterator<Item = Key>) -> Duration {
    timed(|| plain.extend(keys.map(|key| (key.0, VALUE)))).0
}

fn plain_look_up(plain: &Plain, key: Key) {
    assert_eq!(black_box(plain.get(&key.0)).map(|v| v[0]), Some(VALUE[0]));
}

/// Lookups, inserts, both in turn, and overwriting.
fn work(
    report: &mut Report,
    mounted: &Mounted<Ram>,
    plain: &mut Plain,
    seed: u64,
    sizes: [u64; 3],
) {
    let machine = mounted.machine().clone();
    let [keys, lookups, changes] = sizes;
    let drawn = |seed: u64, count: u64| {
        let chance = Chance::new(seed);
        (0..count).map(move |_| chance.next() % keys)
    };
    // Once before it counts: the cache is as full as it gets.
    drawn(seed, lookups).for_each(|n| look_up(mounted, key(n)));
    let _ = machine.take_traffic();
    let (time, ()) = timed(|| drawn(seed + 1, lookups).for_each(|n| look_up(mounted, key(n))));
    let reads = machine.take_traffic().reads as f64 / lookups as f64;
    let (by_plain, ()) =
        timed(|| drawn(seed + 1, lookups).for_each(|n| plain_look_up(plain, key(n))));
    let and = format!("{reads:.2} nodes read each");
    report.rate("random lookups", lookups, time, by_plain, &and);

    let time = insert_all(mounted, drawn(seed + 2, changes).map(between));
    let by_plain = plain_insert_all(plain, drawn(seed + 2, changes).map(between));
    let (to_end, ()) = timed(|| mounted.checkpoint().expect("a checkpoint"));
    let and = written(&machine, changes, time + to_end);
    report.rate("random inserts", changes, time + to_end, by_plain, &and);

    let both = || drawn(seed + 3, changes / 2).zip(drawn(seed + 4, changes / 2));
    let (time, ()) = timed(|| {
        for (a, b) in both() {
            look_up(mounted, key(a));
            insert(mounted, between(b));
        }
        mounted.checkpoint().expect("a checkpoint");
    });
    let (by_plain, ()) = timed(|| {
        for (a, b) in both() {
            plain_look_up(plain, key(a));
            plain.insert(between(b).0, VALUE);
        }
    });
    let and = written(&machine, changes / 2, time);
    let what = "lookups and inserts in turn";
    report.rate(what, changes / 2 * 2, time, by_plain, &and);

    let time = insert_all(mounted, drawn(seed + 5, changes).map(key));
    let by_plain = plain_insert_all(plain, drawn(seed + 5, changes).map(key));
    let (to_end, ()) = timed(|| mounted.checkpoint().expect("a checkpoint"));
    let and = written(&machine, changes, time + to_end);
    report.rate("random overwriting", changes, time + to_end, by_plain, &and);
}

fn keys(report: &mut Report, seed: u64) {
    let count = scaled(10_000_000);
    let machine = Ram::new(DEVICE, seed).make();
    let mounted = machine.mount(Bytes(2 * GIB), DIRTY);
    let title = "10 million keys, all nodes in the cache: times as long as BTreeMap";
    report.heading(title, "written for each change");
    let mut plain = Plain::new();
    let _ = machine.take_traffic();
    let time = insert_all(&mounted, (0..count).map(key));
    let (to_end, ()) = timed(|| mounted.checkpoint().expect("a checkpoint"));
    let by_plain = plain_insert_all(&mut plain, (0..count).map(key));
    let and = written(&machine, count, time + to_end);
    report.rate("inserts in a row", count, time + to_end, by_plain, &and);
    let some = scaled(1_000_000);
    work(report, &mounted, &mut plain, seed, [count, some, some]);
    let nodes = mounted.node_count() * NODE_SIZE as u64;
    mounted.close().expect("closed");

    let title = "10 million keys, ten times the cache: times as long as BTreeMap in memory";
    report.heading(title, "read or written");
    let mounted = machine.mount(Bytes(nodes / 10), DIRTY);
    let sizes = [count, scaled(200_000), some];
    work(report, &mounted, &mut plain, seed + 10, sizes);
    mounted.close().expect("closed");

    let title = "The same, with as much memory for changes as the module has: times as long as BTreeMap in memory";
    report.heading(title, "read or written");
    let mounted = machine.mount(Bytes(nodes / 10), MODULE_DIRTY);
    let sizes = [count, scaled(200_000), some / 2];
    work(report, &mounted, &mut plain, seed + 20, sizes);
}

fn names(report: &mut Report, seed: u64) {
    let count = scaled(1_000_000);
    let machine = Ram::new(DEVICE, seed).make();
    let mounted = machine.mount(Bytes(2 * GIB), DIRTY);
    let (names, view) = (
        Names::try_new(HashWidth::Full).expect("memory"),
        View::first(),
    );
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let title = "A directory of a million names: times as long as BTreeMap of name and number";
    report.heading(title, "");
    let new = New {
        what: What::Regular,
        ..clerk::root()
    };
    let name = |n: u64| format!("file-{n}.txt").into_bytes();
    let _ = machine.take_traffic();
    let (time, ()) = timed(|| {
        for n in 0..count {
            let made = files.create(InodeNo::ROOT, &name(n), &new);
            made.expect("made");
        }
        mounted.checkpoint().expect("a checkpoint");
    });
    let traffic = machine.take_traffic();
    let mut plain: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let (by_plain, ()) = timed(|| plain.extend((0..count).map(|n| (name(n), n))));
    let each = |bytes: u64| bytes / count;
    let and = format!(
        "{} B journal, {} B nodes written each",
        each(traffic.journal),
        each(traffic.elsewhere)
    );
    report.rate("files made", count, time, by_plain, &and);

    let chance = Chance::new(seed);
    let some: Vec<_> = (0..count / 5)
        .map(|_| name(chance.next() % count))
        .collect();
    let (time, ()) = timed(|| {
        for name in &some {
            black_box(files.lookup(InodeNo::ROOT, name).expect("there"));
        }
    });
    let (by_plain, ()) =
        timed(|| assert!(some.iter().all(|name| black_box(plain.get(name)).is_some())));
    report.rate("names looked up", some.len() as u64, time, by_plain, "");

    let (by_plain, _) = timed(|| {
        let all = plain.iter().map(|(name, number)| (name.clone(), *number));
        black_box(all.filter(|(name, _)| !name.is_empty()).count())
    });
    let read_all = |files: embr_engine::names::Files<'_, Ram>| {
        let (mut from, mut seen) = (Cookie::FIRST, 0);
        loop {
            let batch = files.readdir(InodeNo::ROOT, from, 500).expect("readable");
            seen += batch.entries.len() as u64;
            match batch.entries.last() {
                Some(last) if !batch.is_last => from = last.cookie.next(),
                _ => break,
            }
        }
        assert_eq!(seen, count);
    };
    let (time, ()) = timed(|| read_all(files));
    report.rate(
        "readdir of all",
        count,
        time,
        by_plain,
        "all nodes in the cache",
    );
    let nodes = mounted.node_count() * NODE_SIZE as u64;
    mounted.close().expect("closed");
    drop(plain);

    let mounted = machine.mount(Bytes(2 * GIB), DIRTY);
    let files = names.of(&mounted, &view);
    let cached = || (mounted.nodes().cache().count() * NODE_SIZE) as u64;
    let _ = machine.take_traffic();
    let (time, ()) = timed(|| read_all(files));
    let and = format!("{} nodes read", machine.take_traffic().reads);
    report.rate("readdir of all, after a mount", count, time, by_plain, &and);
    let listed = cached();
    let (time, ()) = timed(|| {
        for n in 0..count {
            let to = files.lookup(InodeNo::ROOT, &name(n)).expect("there");
            black_box(files.inode(to.inode).expect("an inode"));
        }
    });
    println!(
        "all looked up, in the order they were made: {:.0}/s",
        count as f64 / time.as_secs_f64()
    );
    let all = cached();
    let mib = |bytes: u64| bytes >> 20;
    let title = "Memory for a million files";
    println!(
        "\n{title}, as nodes in the cache: names {} MiB, names and inodes {} MiB, on disk {} MiB",
        mib(listed),
        mib(all),
        mib(nodes)
    );
    let per = |bytes: u64| mib(bytes * 1_000_000 / count);
    let _ = write!(
        report.0,
        "\n## {title}\n\n| | MiB |\n|---|---:|\n| nodes on disk, one copy | {} |\n\
         | nodes in the cache, all names read | {} |\n| nodes in the cache, all inodes looked up as well | {} |\n\nNothing \
         else of the engine's is kept for a file.\n",
        per(nodes), per(listed), per(all)
    );
}

fn recovery(report: &mut Report, seed: u64) {
    let title = "Recovery: times as long as reading the whole ring and hashing it";
    report.heading(title, "");
    let (start, blocks) = layout::journal(DEVICE);
    let ring = blocks.bytes().expect("bytes").0 as usize;
    for part in [0, 4, 16, 60] {
        let wanted = scaled(part << 20);
        let machine = Ram::new(DEVICE, seed).make();
        let mounted = machine.mount(Bytes(GIB), Bytes(GIB));
        let chance = Chance::new(seed);
        let _ = machine.take_traffic();
        let (mut records, mut journal) = (0, 0);
        while journal < wanted {
            for _ in 0..1000 {
                insert(&mounted, key(chance.next() % 10_000_000));
            }
            records += 1000;
            mounted.sync().expect("durable");
            journal += machine.take_traffic().journal;
        }
        drop(mounted);
        let mut bytes = vec![0; ring];
        let mut read_all = || {
            let at = start.bytes().expect("a place");
            machine.read(at, &mut bytes).expect("read");
            black_box(Simd::new().hash(&[&bytes]))
        };
        // The first time the memory is not there yet.
        read_all();
        let (by_plain, _) = timed(read_all);
        let options = Options {
            read_only: true,
            degraded: false,
            cache: Bytes(GIB),
            dirty: DIRTY,
        };
        let (to_read, mounted) = timed(|| machine.mount_with(options));
        drop(mounted);
        let (to_write, mounted) = timed(|| machine.mount(Bytes(GIB), DIRTY));
        drop(mounted);
        let ring = ring >> 20;
        println!(
            "{part} of {ring} MiB of journal, {records} records: {to_read:?} read-only, {to_write:?} with its checkpoint; plain {by_plain:?}"
        );
        let ratio = |time: Duration| time.as_secs_f64() / by_plain.as_secs_f64();
        let _ = writeln!(
            report.0,
            "| {part} MiB of a ring of {ring}, {records} records | {:.2} | with its checkpoint {:.2} |",
            ratio(to_read),
            ratio(to_write)
        );
    }
}

type Part = fn(&mut Report, u64);

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let only = std::env::var("EMBRFS_T").unwrap_or_default();
    let seed = seed();
    let mut report = Report::default();
    let parts: [(&str, Part); 8] = [
        ("keys", keys),
        ("names", names),
        ("recovery", recovery),
        ("snapshots", album::snapshots),
        ("snapshots, one more", album::growing),
        ("full", full::full),
        ("size", size::size),
        ("parity", parity::parity),
    ];
    for (name, part) in parts {
        if name.contains(&only) {
            part(&mut report, seed);
        }
    }
    if let Some(path) = arguments.first() {
        std::fs::write(path, format!("{HEAD}{}", report.0)).expect("results");
    }
}
