// SPDX-License-Identifier: GPL-2.0

use crate::failpoint;
use crate::Arc;
use crate::Box;
use crate::NoMem;
use crate::Vec;
use core::cell::Cell;
use std::rc::Rc;

fn vec(items: &[u32]) -> Vec<u32> {
    Vec::try_from_slice(items).unwrap()
}

/// Deterministic numbers for comparing with std.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = crate::sim::mix(self.0);
        (self.0 % n as u64) as usize
    }
}

#[test]
fn does_what_std_does() {
    for seed in 0..200 {
        let mut numbers = Numbers(seed);
        let mut ours: Vec<u32> = Vec::new();
        let mut std: std::vec::Vec<u32> = std::vec::Vec::new();
        for _ in 0..300 {
            let x = numbers.below(50) as u32;
            let i = numbers.below(std.len() + 1);
            match numbers.below(14) {
                0..=2 => {
                    ours.push(x).unwrap();
                    std.push(x);
                }
                3..=5 => {
                    ours.insert(i, x).unwrap();
                    std.insert(i, x);
                }
                6 => assert_eq!(ours.pop(), std.pop()),
                7 => {
                    let expected = (i < std.len()).then(|| std.remove(i));
                    assert_eq!(ours.remove(i), expected);
                }
                8 => {
                    let expected = (i < std.len()).then(|| std.swap_remove(i));
                    assert_eq!(ours.swap_remove(i), expected);
                }
                9 => {
                    ours.try_extend_from_slice(&[x, 1, 2]).unwrap();
                    std.extend_from_slice(&[x, 1, 2]);
                }
                10 => {
                    ours.retain(|y| y % 7 != x % 7);
                    std.retain(|y| y % 7 != x % 7);
                }
                11 => {
                    let mut tail = ours.try_split_off(i).unwrap();
                    let expected = std.split_off(i);
                    assert_eq!(tail.as_slice(), &expected[..]);
                    tail.try_append(&mut ours).unwrap();
                    assert!(ours.is_empty());
                    ours = tail;
                    std = [expected, std].concat();
                }
                12 => {
                    ours.try_resize(i + 3, x).unwrap();
                    std.resize(i + 3, x);
                }
                _ => {
                    ours.sort_unstable_by(|a, b| b.cmp(a));
                    std.sort_unstable_by(|a, b| b.cmp(a));
                }
            }
            assert_eq!(ours.as_slice(), &std[..]);
        }
        assert!(ours.into_iter().eq(std));
    }
}

#[test]
fn is_total() {
    let mut v = vec(&[1, 2, 3]);
    assert_eq!(v.remove(3), None);
    assert_eq!(v.swap_remove(3), None);
    v.insert(77, 4).unwrap();
    assert_eq!(v, [1, 2, 3, 4]);
    v.truncate(99);
    assert!(v.try_split_off(99).unwrap().is_empty());
    assert_eq!(v, [1, 2, 3, 4]);
    v.clear();
    assert_eq!(v.pop(), None);
    assert_eq!(std::format!("{:?}", vec(&[1, 2])), "[1, 2]");
    assert_eq!(Vec::zeroed(5).unwrap(), [0u8; 5]);
    assert_eq!(
        Vec::try_with_capacity(usize::MAX).map(|v: Vec<u32>| v.len()),
        Err(NoMem)
    );
}

#[test]
fn each_element_is_dropped_once() {
    struct Counted(Rc<Cell<u32>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let drops = Rc::new(Cell::new(0));
    let make = |n| Vec::try_from_iter((0..n).map(|_| Counted(drops.clone()))).unwrap();

    let mut v = make(10);
    v.truncate(7);
    assert_eq!(drops.get(), 3);
    drop(v.remove(0));
    v.retain(|_| false);
    assert_eq!(drops.get(), 10);

    let mut items = make(5).into_iter();
    items.next();
    drop(items);
    assert_eq!(drops.get(), 15);

    let mut v = make(4);
    while v.len() < v.capacity() {
        v.push(Counted(drops.clone())).unwrap();
    }
    let held = v.len() as u32;
    failpoint::fail_nth(1);
    assert!(v.insert(0, Counted(drops.clone())).is_err());
    assert_eq!(failpoint::off().failed, 1);
    assert_eq!(drops.get(), 16);
    drop(v);
    assert_eq!(drops.get(), 16 + held);
}

#[test]
fn without_memory_nothing_changes() {
    /// What is done with an array in each test, and how many allocations it takes.
    type Change = (u64, fn(&mut Vec<u32>) -> Result<(), NoMem>);
    let changes: [Change; 8] = [
        (1, |v| v.push(1)),
        (1, |v| v.insert(0, 1)),
        (1, |v| v.try_extend_from_slice(&[1, 2, 3])),
        (1, |v| v.try_extend([1, 2, 3])),
        (1, |v| v.try_resize(100, 1)),
        (2, |v| v.try_append(&mut Vec::try_from_slice(&[7; 50])?)),
        (1, |v| v.try_split_off(1).map(|_| ())),
        (1, |v| v.try_clone().map(|_| ())),
    ];
    for (i, (needed, change)) in changes.into_iter().enumerate() {
        for n in 1..=needed {
            let mut v = vec(&[9, 8, 7]);
            failpoint::fail_nth(n);
            assert_eq!(change(&mut v), Err(NoMem), "change {i}, allocation {n}");
            assert_eq!(failpoint::off().failed, 1);
            assert_eq!(v, [9, 8, 7]);
        }
        let mut v = vec(&[9, 8, 7]);
        failpoint::fail_nth(needed + 1);
        assert_eq!(change(&mut v), Ok(()));
        assert_eq!(failpoint::off().asked, needed, "change {i}");
    }
}

#[test]
fn reserved_room_needs_no_memory() {
    let mut v = Vec::try_with_capacity(10).unwrap();
    failpoint::fail_from(1);
    for i in 0..10 {
        v.push(i).unwrap();
    }
    while v.len() < v.capacity() {
        v.push_within_capacity(0).unwrap();
    }
    assert_eq!(v.push_within_capacity(77), Err(77));
    assert_eq!(failpoint::off().asked, 0);
    assert!(v.starts_with(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
}

#[test]
fn the_plan_says_which_allocations_fail() {
    let outcome = || std::vec::Vec::from_iter((0..6).map(|i| Box::try_new(i).is_ok()));
    failpoint::fail_nth(2);
    assert_eq!(outcome(), [true, false, true, true, true, true]);
    failpoint::fail_from(4);
    assert_eq!(outcome(), [true, true, true, false, false, false]);
    failpoint::fail_one_in(2, 5);
    let some = outcome();
    assert!(some.contains(&true) && some.contains(&false));
    failpoint::fail_one_in(2, 5);
    assert_eq!(outcome(), some);
    assert_eq!(failpoint::off().asked, 6);
    assert_eq!(outcome(), [true; 6]);
}

#[test]
fn boxes_hold_traits() {
    let b = Box::try_new(5u8)
        .unwrap()
        .unsize::<dyn core::fmt::Debug>(|raw| raw);
    assert_eq!(std::format!("{b:?}"), "5");
    let mut f = Box::try_new(|x: u32| x + 1)
        .unwrap()
        .unsize::<dyn FnMut(u32) -> u32>(|raw| raw);
    assert_eq!(f(1), 2);
    assert_eq!(Box::try_new(7).unwrap().into_inner(), 7);
}

#[test]
fn arcs_know_whether_they_are_alone() {
    let mut a = Arc::try_new(std::string::String::from("x")).unwrap();
    Arc::get_mut(&mut a).unwrap().push('y');
    let b = a.clone();
    assert!(Arc::ptr_eq(&a, &b));
    assert!(!Arc::is_unique(&a) && Arc::get_mut(&mut a).is_none());
    assert_eq!(Arc::into_inner(a), None);
    assert!(Arc::is_unique(&b));
    assert_eq!(Arc::into_inner(b).unwrap(), "xy");
    failpoint::fail_nth(1);
    assert!(Arc::try_new(1).is_err());
    failpoint::off();
}

#[test]
fn exactly_one_owner_gets_the_value() {
    for _ in 0..200 {
        let a = Arc::try_new(std::string::String::from("value")).unwrap();
        let threads: std::vec::Vec<_> = (0..4)
            .map(|_| {
                let a = a.clone();
                std::thread::spawn(move || Arc::into_inner(a).is_some())
            })
            .collect();
        let mine = Arc::into_inner(a).is_some();
        let theirs = threads.into_iter().map(|t| t.join().unwrap());
        assert_eq!(theirs.filter(|&got| got).count() + usize::from(mine), 1);
    }
}
