// SPDX-License-Identifier: GPL-2.0

//! Lock order, checked in userspace as lockdep checks it in the kernel.
//!
//! Nobody declares ranks. Whoever takes class B while holding class A thereby says "A before B"; when such statements
//! first form a circle, the task that closes it panics and names both sides. What was seen in a simulated world is
//! forgotten with it, so that a seed repeats; outside, it is remembered for the life of the process.
//!
//! Trying a lock says nothing about what is held already, for it cannot wait; but what is taken while it is held counts.

use super::LockClass;
use crate::sim;
use core::cell::RefCell;
use core::panic::Location;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::string::String;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::vec::Vec;

type Place = &'static Location<'static>;

#[derive(Clone, Copy)]
struct Held {
    class: &'static LockClass,
    place: Place,
}

/// "The class `held` was held, taken at `held.place`, when `then` was taken."
#[derive(Clone, Copy)]
struct Statement {
    held: Held,
    then: Held,
}

impl Statement {
    fn tell(&self, out: &mut String) {
        let (held, then) = (&self.held, &self.then);
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n  {} was taken at {} while {} was held, taken at {}",
            then.class, then.place, held.class, held.place
        );
    }
}

/// All that was said so far. Keys are the classes' addresses: classes are statics, so these are unique.
pub(crate) struct Graph(BTreeMap<(usize, usize), Statement>);

fn key(class: &'static LockClass) -> usize {
    core::ptr::from_ref(class).addr()
}

impl Graph {
    pub(crate) const fn new() -> Self {
        Graph(BTreeMap::new())
    }

    /// The statements that lead from `from` to `to`, if there is such a chain.
    fn path(&self, from: usize, to: usize) -> Option<Vec<Statement>> {
        let mut reached_by: BTreeMap<usize, Statement> = BTreeMap::new();
        let mut todo = std::vec![from];
        while let Some(at) = todo.pop() {
            for (&(_, next), &statement) in self.0.range((at, 0)..=(at, usize::MAX)) {
                if next == from || reached_by.contains_key(&next) {
                    continue;
                }
                reached_by.insert(next, statement);
                todo.push(next);
            }
        }
        let mut chain = Vec::new();
        let mut at = to;
        while at != from {
            let statement = *reached_by.get(&at)?;
            chain.push(statement);
            at = key(statement.held.class);
        }
        chain.reverse();
        Some(chain)
    }

    fn say(&mut self, held: Held, then: Held) -> Result<(), String> {
        let (a, b) = (key(held.class), key(then.class));
        let statement = Statement { held, then };
        if a == b {
            let mut report = String::from("lock order: two locks of one class");
            statement.tell(&mut report);
            return Err(report);
        }
        if self.0.contains_key(&(a, b)) {
            return Ok(());
        }
        if let Some(chain) = self.path(b, a) {
            let mut report = String::from("lock order inversion");
            statement.tell(&mut report);
            report.push_str("\nbut before that");
            for earlier in &chain {
                earlier.tell(&mut report);
            }
            return Err(report);
        }
        self.0.insert((a, b), statement);
        Ok(())
    }
}

static OF_PROCESS: Mutex<Graph> = Mutex::new(Graph::new());

thread_local! {
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
    /// What this thread said outside of worlds, sorted: saying it again needs no lock.
    static SAID: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
}

/// Says it to the graph of the process, unless this thread did so before.
fn say_once(held: Held, then: Held) -> Result<(), String> {
    let pair = (key(held.class), key(then.class));
    SAID.with_borrow_mut(|said| {
        let Err(at) = said.binary_search(&pair) else {
            return Ok(());
        };
        let mut graph = OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        graph.say(held, then)?;
        said.insert(at, pair);
        Ok(())
    })
}

/// To be called before a lock of `class` is waited for.
///
/// # Panics
///
/// If that closes a circle.
pub(crate) fn about_to_take(class: &'static LockClass, place: Place) {
    if std::thread::panicking() {
        return;
    }
    let then = Held { class, place };
    let said = HELD.with_borrow(|held| {
        if held.is_empty() {
            return Ok(());
        }
        match sim::current() {
            Some(task) => {
                task.with_order(|graph| held.iter().try_for_each(|&h| graph.say(h, then)))
            }
            None => held.iter().try_for_each(|&h| say_once(h, then)),
        }
    });
    if let Err(report) = said {
        panic!("{report}");
    }
}

/// To be called once a lock of `class` is held.
pub(crate) fn taken(class: &'static LockClass, place: Place) {
    HELD.with_borrow_mut(|held| held.push(Held { class, place }));
}

/// To be called once a lock of `class` is no longer held.
pub(crate) fn released(class: &'static LockClass) {
    HELD.with_borrow_mut(|held| {
        if let Some(i) = held.iter().rposition(|h| core::ptr::eq(h.class, class)) {
            held.remove(i);
        }
    });
}
