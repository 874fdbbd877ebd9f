// SPDX-License-Identifier: GPL-2.0

//! Whether there is one order of all acts of several tasks that explains what each came to, and what such orders leave after each of
//! their prefixes. Known is when each act began and when it was over, and in which group of the journal it is: whatever was over before
//! another began comes before it, and so does whatever is in an earlier group.

use super::act::Act;
use super::act::Came;
use crate::estate::Estate;
use crate::files::Refused;
use embr_engine::units::Sequence as Group;
use std::collections::BTreeMap;

/// An act that a task did.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    pub act: Act,
    pub step: u64,
    pub came: Result<Came, Refused>,
    pub group: Option<Group>,
    /// The events with which it began and was over.
    pub began: usize,
    pub ended: usize,
}

/// How many acts of each task are done.
pub(super) type Point = Vec<usize>;

/// A state, and which states of the level before it comes from: by the task that made the step, and the state's place.
type Reached = (Estate, Vec<(usize, usize)>);
/// What there may be after so many acts in all.
type Level = BTreeMap<Point, Vec<Reached>>;

/// What there may be at each point.
pub(super) struct Orders {
    points: BTreeMap<Point, Vec<Estate>>,
}

/// For each act of each task, how far all tasks must be before it.
fn needs(tasks: &[Vec<Deed>]) -> Vec<Vec<Point>> {
    let before = |deed: &Deed| -> Point {
        let is_before = |other: &Deed| {
            let groups = other.group.zip(deed.group);
            other.ended < deed.began || groups.is_some_and(|(other, own)| other < own)
        };
        let of = |task: &Vec<Deed>| task.iter().rposition(is_before).map_or(0, |last| last + 1);
        tasks.iter().map(of).collect()
    };
    let of = |task: &Vec<Deed>| task.iter().map(before).collect();
    tasks.iter().map(of).collect()
}

fn reaches(point: &[usize], need: &[usize]) -> bool {
    point.iter().zip(need).all(|(is, need)| is >= need)
}

impl Orders {
    /// All of them, from this beginning to this end.
    pub fn find(begin: &Estate, tasks: &[Vec<Deed>], end: &Estate) -> Result<Self, String> {
        let needs = needs(tasks);
        let last: Point = tasks.iter().map(Vec::len).collect();
        let first = (vec![0; tasks.len()], vec![(begin.clone(), Vec::new())]);
        let mut levels: Vec<Level> = vec![Level::from([first])];
        for _ in 0..last.iter().sum() {
            let Some(level) = levels.last() else { break };
            let mut next = Level::new();
            for (point, states) in level {
                for (task, deeds) in tasks.iter().enumerate() {
                    let Some(deed) = deeds.get(point[task]) else {
                        continue;
                    };
                    if !reaches(point, &needs[task][point[task]]) {
                        continue;
                    }
                    for (number, (state, _)) in states.iter().enumerate() {
                        let mut state = state.clone();
                        if !deed.act.agrees(&mut state, deed.step, &deed.came) {
                            continue;
                        }
                        let mut point = point.clone();
                        point[task] += 1;
                        let there = next.entry(point).or_default();
                        match there.iter_mut().find(|(known, _)| *known == state) {
                            Some((_, from)) => from.push((task, number)),
                            None => there.push((state, vec![(task, number)])),
                        }
                    }
                }
            }
            if next.is_empty() {
                return Err(unexplained(level.keys(), tasks));
            }
            levels.push(next);
        }
        let ends = levels.last().and_then(|level| level.get(&last));
        let found = ends.is_some_and(|ends| ends.iter().any(|(state, _)| end.may_become(state)));
        if !found {
            let nearest = ends.and_then(|ends| ends.first());
            let what = nearest.and_then(|(state, _)| state.difference(end));
            return Err(format!("at the end: {}", what.unwrap_or_default()));
        }
        Ok(Orders {
            points: leading(levels, end),
        })
    }

    /// Whether this may be there: after a prefix that is no shorter than one point, and no longer than another.
    pub fn allow(&self, found: &Estate, least: &[usize], most: &[usize]) -> Result<(), String> {
        // A file may lose its last name first, and all the rest later.
        self.allow_as(|state| found.may_become(state), found, least, most)
    }

    /// As [`Self::allow`], of files that have names. A snapshot that was taken while one was being removed has it without one.
    pub fn allow_named(
        &self,
        found: &Estate,
        least: &[usize],
        most: &[usize],
    ) -> Result<(), String> {
        let found = found.clone().without_any_orphans();
        let same = |state: &Estate| state.clone().without_any_orphans() == found;
        self.allow_as(same, &found, least, most)
    }

    fn allow_as(
        &self,
        same: impl Fn(&Estate) -> bool,
        found: &Estate,
        least: &[usize],
        most: &[usize],
    ) -> Result<(), String> {
        let inside = |point: &Point| reaches(point, least) && reaches(most, point);
        // The newest is the most likely.
        let mut points = self.points.iter().rev().filter(|(point, _)| inside(point));
        if points.any(|(_, states)| states.iter().any(&same)) {
            return Ok(());
        }
        let there = (self.points.iter()).find(|(_, states)| states.iter().any(&same));
        if let Some((point, _)) = there {
            return Err(format!(
                "as of {point:?}; {least:?} was durable, {most:?} begun"
            ));
        }
        let newest = self.points.iter().rfind(|(point, _)| inside(point));
        let what = newest.and_then(|(_, states)| states.first()?.difference(found));
        Err(format!(
            "no prefix from {least:?} to {most:?}: {}",
            what.unwrap_or_default()
        ))
    }
}

/// Of these states, those that lead to the end.
fn leading(levels: Vec<Level>, end: &Estate) -> BTreeMap<Point, Vec<Estate>> {
    let mut points = BTreeMap::new();
    let mut wanted: BTreeMap<Point, Vec<usize>> = BTreeMap::new();
    for level in levels.into_iter().rev() {
        let mut before: BTreeMap<Point, Vec<usize>> = BTreeMap::new();
        let is_last = points.is_empty();
        for (point, states) in level {
            let mut kept = Vec::new();
            for (number, (state, from)) in states.into_iter().enumerate() {
                let leads = match is_last {
                    true => end.may_become(&state),
                    false => wanted.get(&point).is_some_and(|w| w.contains(&number)),
                };
                if !leads {
                    continue;
                }
                for (task, number) in from {
                    let mut point = point.clone();
                    point[task] -= 1;
                    before.entry(point).or_default().push(number);
                }
                kept.push(state);
            }
            if !kept.is_empty() {
                points.insert(point, kept);
            }
        }
        wanted = before;
    }
    points
}

/// Where no order goes on.
fn unexplained<'p>(ends: impl Iterator<Item = &'p Point>, tasks: &[Vec<Deed>]) -> String {
    let Some(point) = ends.last() else {
        return "no beginning".into();
    };
    let next = tasks.iter().zip(point).filter_map(|(task, n)| task.get(*n));
    let next: Vec<String> = next
        .map(|deed| format!("{:?} came to {:.300}", deed.act, format!("{:?}", deed.came)))
        .collect();
    format!("no order explains, after {point:?}: {}", next.join("; or "))
}
