// SPDX-License-Identifier: GPL-2.0

//! What a world knows of its tasks, and how the next one is drawn. No threads here: this part is a plain value.

use super::mix;
use super::scheduler::Baton;
use super::Failure;
use super::Kind;
use super::World;
use crate::failpoint::Injector;
use crate::sync::order;
use crate::sync::Wake;
use core::panic::Location;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::string::String;
use std::sync::Arc;
use std::thread;
use std::vec::Vec;

pub(super) type Place = &'static Location<'static>;

/// What a task waits for. Numbers are addresses: they tell apart, but never enter the trace nor decide anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Lock(usize),
    Cond(usize),
    Task(TaskId),
    Time,
}

/// A task's number, in order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskId(pub(super) usize);

/// What a task did at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Lock = 1,
    TryLock,
    Release,
    Block,
    Notify,
    Spawn,
    Yield,
    Exit,
    Spurious,
    Advance,
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ready,
    Blocked,
    /// It could go on, and does not while any other can, or will when time passes.
    Still,
    Done,
}

pub(super) struct Waiting {
    pub(super) on: Resource,
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) deadline: Option<u64>,
}

pub(super) struct Holding {
    pub(super) what: Resource,
    pub(super) name: &'static str,
    pub(super) place: Place,
}

pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) waiting: Option<Waiting>,
    pub(super) wake: Wake,
    pub(super) holding: Vec<Holding>,
    /// How many points it passes before it stands still at one.
    pub(super) until_still: Option<u64>,
    pub(super) baton: Arc<Baton>,
}

impl Task {
    pub(super) fn new(name: &'static str, baton: Arc<Baton>) -> Self {
        Task {
            name,
            status: Status::Ready,
            waiting: None,
            wake: Wake::Notified,
            holding: Vec::new(),
            until_still: None,
            baton,
        }
    }
}

struct Step {
    task: usize,
    op: Op,
    name: &'static str,
}

/// How many steps a report shows.
const REMEMBERED: usize = 40;

/// All that a world is, apart from its threads' stacks.
pub(super) struct State {
    seed: u64,
    chance: u64,
    /// At a point where it could go on, a task does so unless these bits of a draw are all zero.
    stay_mask: u64,
    /// It always does so.
    is_calm: bool,
    /// Now and then a task is held back for up to so many steps; for none in some worlds.
    hold: u64,
    /// Who is held back, and until which step.
    held: Option<(usize, u64)>,
    /// Who stands still, the longest first.
    still: VecDeque<usize>,
    spurious_one_in: u64,
    step_limit: u64,
    pub(super) now: u64,
    pub(super) tasks: Vec<Task>,
    pub(super) steps: u64,
    pub(super) trace: u64,
    recent: VecDeque<Step>,
    pub(super) injector: Injector,
    pub(super) order: order::Graph,
    pub(super) threads: Vec<thread::JoinHandle<()>>,
    pub(super) over: Option<Result<(), Failure>>,
}

impl State {
    pub(super) fn new(world: &World) -> Self {
        // Drawn apart from all other chance, so that it says nothing about the first choices.
        let drawn = mix(world.seed);
        let eagerness = drawn % 4;
        State {
            seed: world.seed,
            chance: 0,
            stay_mask: (1 << eagerness) - 1,
            is_calm: world.is_calm,
            hold: if !world.holds || drawn & 4 == 0 {
                0
            } else {
                16 << ((drawn >> 3) % 10)
            },
            held: None,
            still: VecDeque::new(),
            spurious_one_in: world.spurious_one_in,
            step_limit: world.step_limit,
            now: 0,
            tasks: Vec::new(),
            steps: 0,
            trace: mix(world.seed),
            recent: VecDeque::new(),
            injector: Injector::new(),
            order: order::Graph::new(),
            threads: Vec::new(),
            over: None,
        }
    }

    pub(super) fn failure(&self, kind: Kind, why: &str) -> Failure {
        Failure {
            kind,
            seed: self.seed,
            trace: self.trace,
            report: std::format!("{why}{}", self.describe()),
        }
    }

    pub(super) fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(1);
        mix(self.seed ^ mix(self.chance))
    }

    /// Whether the running task, which could go on, lets another one forward.
    pub(super) fn lets_forward(&mut self) -> bool {
        !self.is_calm && self.random() & self.stay_mask == 0
    }

    /// Whether this is the point where the task stands still.
    pub(super) fn stands_still(&mut self, id: usize) -> bool {
        let left = &mut self.tasks[id].until_still;
        let is_here = *left == Some(0);
        *left = left.and_then(|n| n.checked_sub(1));
        if is_here {
            self.stand_still(id);
        }
        is_here
    }

    fn stand_still(&mut self, id: usize) {
        self.tasks[id].status = Status::Still;
        self.still.push_back(id);
    }

    /// Adds a task. In a calm world, it leaves those forward that are there.
    pub(super) fn add(&mut self, task: Task) {
        let id = self.tasks.len();
        self.tasks.push(task);
        if self.is_calm && id != 0 {
            self.stand_still(id);
        }
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.random() % n as u64) as usize
    }

    pub(super) fn fold(&mut self, value: u64) {
        self.trace = mix(self.trace ^ value);
    }

    /// Notes a step; false if there have been too many.
    pub(super) fn step(&mut self, task: usize, op: Op, name: &'static str) -> bool {
        self.steps += 1;
        self.fold(((task as u64) << 8) | op as u64);
        for byte in name.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(Step { task, op, name });
        self.steps <= self.step_limit
    }

    pub(super) fn wake(&mut self, id: usize, how: Wake) {
        let task = &mut self.tasks[id];
        task.status = Status::Ready;
        task.waiting = None;
        task.wake = how;
    }

    /// Those who wait for something in particular, in order of their start.
    pub(super) fn waiters(&self, on: impl Fn(&Waiting) -> bool) -> Vec<usize> {
        let waits = |t: &Task| t.waiting.as_ref().is_some_and(&on);
        (0..self.tasks.len())
            .filter(|&i| waits(&self.tasks[i]))
            .collect()
    }

    pub(super) fn wake_all(&mut self, on: Resource) {
        for id in self.waiters(|w| w.on == on) {
            self.wake(id, Wake::Notified);
        }
    }

    fn maybe_wake_for_no_reason(&mut self) {
        if self.spurious_one_in == 0 || self.random() % self.spurious_one_in != 0 {
            return;
        }
        let candidates = self.waiters(|w| matches!(w.on, Resource::Cond(_)));
        if !candidates.is_empty() {
            let id = candidates[self.below(candidates.len())];
            self.step(id, Op::Spurious, "");
            self.wake(id, Wake::Notified);
        }
    }

    /// One of those that could go on, and that are not `but`.
    fn draw(&mut self, but: Option<usize>) -> Option<usize> {
        let can = |(id, t): &(usize, &Task)| t.status == Status::Ready && Some(*id) != but;
        let count = self.tasks.iter().enumerate().filter(can).count();
        let nth = (count != 0).then(|| self.below(count))?;
        self.tasks
            .iter()
            .enumerate()
            .filter(can)
            .nth(nth)
            .map(|(id, _)| id)
    }

    /// Sometimes begins to hold a task back: between two steps of it others do a few things in some worlds, in others a lot.
    fn maybe_hold(&mut self) -> Option<usize> {
        self.held = self.held.filter(|(_, until)| self.steps < *until);
        if self.hold != 0 && self.held.is_none() && self.random() % 32 == 0 {
            let until = self.steps + self.random() % self.hold;
            self.held = self.draw(None).map(|id| (id, until));
        }
        self.held.map(|(id, _)| id)
    }

    /// Who goes on; none if nobody ever can.
    pub(super) fn choose(&mut self) -> Option<usize> {
        self.maybe_wake_for_no_reason();
        loop {
            let held = self.maybe_hold();
            if let Some(chosen) = self.draw(held).or_else(|| self.draw(None)) {
                self.fold(chosen as u64);
                return Some(chosen);
            }
            let deadline = |t: &Task| t.waiting.as_ref().and_then(|w| w.deadline);
            let Some(next) = self.tasks.iter().filter_map(deadline).min() else {
                let longest = self.still.pop_front()?;
                self.tasks[longest].status = Status::Ready;
                continue;
            };
            self.now = self.now.max(next);
            self.fold(Op::Advance as u64 ^ (self.now << 8));
            let now = self.now;
            for id in self.waiters(|w| w.deadline.is_some_and(|d| d <= now)) {
                self.wake(id, Wake::TimedOut);
            }
        }
    }

    fn describe(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        for (id, task) in self.tasks.iter().enumerate() {
            let Some(waiting) = &task.waiting else {
                continue;
            };
            let what = match waiting.on {
                Resource::Lock(_) => "the lock",
                Resource::Cond(_) => "a notification of",
                Resource::Task(_) => "the end of task",
                Resource::Time => "time to pass:",
            };
            let _ = write!(
                out,
                "\n  task {id} \"{}\" waits for {what} \"{}\" at {}",
                task.name, waiting.name, waiting.place
            );
            for (other, holder) in self.tasks.iter().enumerate() {
                for held in holder.holding.iter().filter(|h| h.what == waiting.on) {
                    let _ = write!(
                        out,
                        ", held by task {other} \"{}\" since {}",
                        holder.name, held.place
                    );
                }
            }
            for held in &task.holding {
                let _ = write!(
                    out,
                    "\n      it holds \"{}\", taken at {}",
                    held.name, held.place
                );
            }
        }
        let _ = write!(
            out,
            "\n  the last of {} steps, at {} ns:",
            self.steps, self.now
        );
        for step in &self.recent {
            let name = self.tasks.get(step.task).map_or("", |t| t.name);
            let _ = write!(
                out,
                "\n    task {} \"{name}\" {:?} {}",
                step.task, step.op, step.name
            );
        }
        out
    }
}
