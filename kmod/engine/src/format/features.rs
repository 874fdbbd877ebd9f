// SPDX-License-Identifier: GPL-2.0

//! The three masks that say what a volume uses beyond the first version of the format.

use core::fmt;

/// What code that does not know a bit may still do with the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Read and write it.
    Compatible,
    /// Read it only.
    ReadOnly,
    /// Nothing.
    Incompatible,
}

/// A volume's feature masks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Bits that do no harm to code that does not know them.
    pub compatible: u64,
    /// Bits that allow such code to read.
    pub read_only: u64,
    /// Bits that forbid such code to mount.
    pub incompatible: u64,
}

/// Bits that this code knows: class, bit, name.
const KNOWN: [(Class, u32, &str); 0] = [];

fn known(class: Class) -> u64 {
    KNOWN
        .iter()
        .filter(|(c, _, _)| *c == class)
        .fold(0, |mask, (_, bit, _)| mask | 1u64.wrapping_shl(*bit))
}

impl Features {
    /// Bits that forbid any mount here.
    pub fn unknown_incompatible(&self) -> Unknown {
        Unknown {
            class: Class::Incompatible,
            bits: self.incompatible & !known(Class::Incompatible),
        }
    }

    /// Bits that forbid a read-write mount here.
    pub fn unknown_read_only(&self) -> Unknown {
        Unknown {
            class: Class::ReadOnly,
            bits: self.read_only & !known(Class::ReadOnly),
        }
    }
}

/// Bits of one class that this code does not know; prints as their names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unknown {
    /// The class.
    pub class: Class,
    /// The bits.
    pub bits: u64,
}

impl Unknown {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.bits != 0
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            Class::Compatible => "compatible",
            Class::ReadOnly => "read-only-compatible",
            Class::Incompatible => "incompatible",
        };
        let mut separator = "";
        for bit in (0..u64::BITS).filter(|bit| (self.bits >> bit) & 1 != 0) {
            write!(f, "{separator}{class} bit {bit}")?;
            separator = ", ";
        }
        Ok(())
    }
}
