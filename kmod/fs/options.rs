// SPDX-License-Identifier: GPL-2.0

//! Mount options. `ro` and its like are the VFS's own.

use crate::errors::Escaped;
use embr_vfs::{
    log::Log,
    params::{
        ParameterTable,
        Parameters,
        Spec,
        Value, //
    },
};
use kernel::{
    prelude::*,
    str::CString, //
};

/// Names of options.
#[derive(Clone, Copy)]
pub(crate) enum Name {
    /// `device=PATH`, once for each member beside the source.
    Device,
    /// `degraded`: go on without a majority of the members.
    Degraded,
    /// `discard`: tell devices of what was freed.
    Discard,
    /// `nodiscard`: do not.
    NoDiscard,
}

static TABLE: ParameterTable<Name, 4> = ParameterTable::new([
    Spec::text(c"device", Name::Device),
    Spec::flag(c"degraded", Name::Degraded),
    Spec::flag(c"discard", Name::Discard),
    Spec::flag(c"nodiscard", Name::NoDiscard),
]);

/// More than a volume can have members, with room for second paths to them.
const DEVICES_MAX: usize = 256;

/// What the options of a mount add up to.
pub(crate) struct Options {
    /// Paths named by `device=`.
    pub(crate) devices: KVec<CString>,
    /// `degraded` was given.
    pub(crate) degraded: bool,
    /// `discard` or `nodiscard` was given, the last one counts.
    pub(crate) discard: Option<bool>,
}

impl Options {
    pub(crate) fn parameters() -> Parameters<Name> {
        TABLE.parameters()
    }

    pub(crate) fn new() -> Self {
        Options {
            devices: KVec::new(),
            degraded: false,
            discard: None,
        }
    }

    pub(crate) fn set(&mut self, name: Name, value: Value<'_>, log: &Log<'_>) -> Result {
        match (name, value) {
            (Name::Device, Value::Text(path)) => {
                if !path.to_bytes().starts_with(b"/") {
                    log.error(format_args!(
                        "device={}: not an absolute path",
                        Escaped(path.to_bytes())
                    ));
                    return Err(EINVAL);
                }
                if self.devices.len() >= DEVICES_MAX {
                    log.error(format_args!("more than {DEVICES_MAX} times device="));
                    return Err(EINVAL);
                }
                self.devices.push(path.to_cstring()?, GFP_KERNEL)?;
                Ok(())
            }
            (Name::Degraded, Value::Flag) => {
                self.degraded = true;
                Ok(())
            }
            (Name::Discard, Value::Flag) => {
                self.discard = Some(true);
                Ok(())
            }
            (Name::NoDiscard, Value::Flag) => {
                self.discard = Some(false);
                Ok(())
            }
            // The table says which option has what kind of value.
            _ => Err(EINVAL),
        }
    }
}
