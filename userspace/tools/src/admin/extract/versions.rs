// SPDX-License-Identifier: GPL-2.0

//! Which snapshots and heads of a volume come out, and where each is put.

use super::failed;
use super::report::Report;
use crate::cli::admin::Extract;
use crate::describe;
use crate::failure::Failure;
use crate::items;
use crate::output::document;
use crate::say;
use embr_engine::format::name::Name;
use embr_engine::names::Error;
use embr_engine::names::Item;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::snapshot::Listed;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::SnapshotId;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use embr_rt::Arc;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;

/// Numbers of versions that are gone through where it is lost whose they are.
const MOST: u64 = 1 << 16;
/// Where the volume's own head is put, and where others are, if all come out.
const HEAD: &str = "head";
const OTHERS: &str = "snapshots";

/// A snapshot or a head.
pub(super) struct Version {
    pub(super) view: Arc<View>,
    /// The directories that it is put in, below that for all.
    pub(super) place: Vec<Vec<u8>>,
    /// How it is called where there are several.
    pub(super) whose: Option<String>,
}

/// What people call it.
fn called(one: &Listed) -> String {
    match one.name.is_empty() {
        true => "the volume's own head".to_owned(),
        false => items::text(&one.name),
    }
}

fn listed<M: Machine>(names: &Names, mounted: &Mounted<M>) -> Result<Vec<Listed>, Failure> {
    let listed = names.snapshots(mounted).map_err(|why| lost(&why))?;
    Ok(listed.into_iter().collect())
}

fn lost(why: &Error) -> Failure {
    let text = format!("what snapshots and heads the volume has is lost: {why}");
    failed("volume", &text).advise(
        "with --any-version the newest of everything comes out, whichever snapshot or head wrote it",
    )
}

/// Says what there is.
pub(super) fn list<M: Machine>(
    names: &Names,
    mounted: &Mounted<M>,
    report: &Report,
    as_json: bool,
) -> Result<u8, Failure> {
    let all = listed(names, mounted)?;
    let kind = |one: &Listed| if one.is_head { "head" } else { "snapshot" };
    if as_json {
        let rows = all.iter().map(|one| {
            json!({
                "name": items::text(&one.name),
                "number": one.id.0,
                "kind": kind(one),
                "made": describe::time_json(one.made),
            })
        });
        let rows: Vec<_> = rows.collect();
        document(&super::with(report.json(), json!({ "snapshots": rows })));
        return Ok(report.status());
    }
    for one in &all {
        let made = match one.name.is_empty() {
            true => String::new(),
            false => format!(", made {}", describe::time(one.made)),
        };
        say!("{}: {}{made}", called(one), kind(one));
    }
    Ok(report.status())
}

/// Those that are asked for.
pub(super) fn wanted<M: Machine>(
    args: &Extract,
    names: &Names,
    mounted: &Mounted<M>,
    report: &mut Report,
) -> Result<Vec<Version>, Failure> {
    if args.any_version {
        return Ok(vec![any(mounted, report)?]);
    }
    let open = |name: &[u8]| match names.open(mounted, name) {
        Ok(view) => Ok(view),
        Err(Error::NotFound) => {
            let text = format!("there is no snapshot or head {}", items::text(name));
            Err(failed("snapshot", &text).advise("--list-snapshots says what there is"))
        }
        Err(why) => Err(lost(&why)),
    };
    if !args.all_snapshots {
        let name = args.snapshot.as_ref().map_or(&b""[..], |s| s.as_bytes());
        return Ok(vec![Version {
            view: open(name)?,
            place: Vec::new(),
            whose: None,
        }]);
    }
    let mut all = Vec::new();
    for one in listed(names, mounted)? {
        let place = match one.name.is_empty() {
            true => vec![HEAD.as_bytes().to_vec()],
            false => {
                // What is no name of a file is not made one.
                let name = Name::new(&one.name).map(|name| name.bytes().to_vec());
                let name = name.unwrap_or_else(|| format!("#{}", one.id).into_bytes());
                vec![OTHERS.as_bytes().to_vec(), name]
            }
        };
        all.push(Version {
            view: open(&one.name)?,
            place,
            whose: Some(called(&one)),
        });
    }
    Ok(all)
}

/// The newest version of everything.
fn any<M: Machine>(mounted: &Mounted<M>, report: &mut Report) -> Result<Version, Failure> {
    let mut newest = SnapshotId::FIRST;
    let mut from = Some(Key::MIN);
    while let Some(first) = from.take() {
        let last = Key::MAX;
        let Some(mut scan) = mounted.scan(NAMES, Range { first, last }) else {
            break;
        };
        loop {
            match scan.next() {
                Ok(Some((key, _))) => newest = newest.max(Item::of(key).1),
                Ok(None) => break,
                Err(_) => {
                    let behind = scan.lost().and_then(|keys| keys.last.next());
                    from = behind.filter(|next| *next > first);
                    break;
                }
            }
        }
    }
    if newest.0 > MOST {
        return Err(failed("volume", &"numbers of versions make no sense"));
    }
    let below: Vec<SnapshotId> = (1..newest.0).map(SnapshotId).collect();
    let view = View::new(newest, &below).map_err(|why| failed("memory", &why))?;
    let view = view.ok_or_else(|| failed("volume", &"numbers of versions make no sense"))?;
    report.is_doubtful = true;
    report.note(
        "this is the newest version of everything, whichever snapshot or head wrote it: where there were several heads, files may be in part of \
         one and in part of another"
            .to_owned(),
    );
    Ok(Version {
        view: Arc::try_new(view).map_err(|why| failed("memory", &why))?,
        place: Vec::new(),
        whose: None,
    })
}
