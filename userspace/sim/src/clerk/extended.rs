// SPDX-License-Identifier: GPL-2.0

//! Extended attributes, set, read, listed and removed. Small values mostly, as every one is kept in the model of each moment.

use super::Clerk;
use crate::files::Files as Model;
use crate::machine::Simulated;
use embr_engine::names::Attributes;
use embr_engine::names::Error;
use embr_engine::names::Extended;
use embr_engine::names::Files;
use embr_engine::names::Mark;
use embr_engine::names::Put;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Clerk<'_> {
    fn attribute_name(&self) -> Vec<u8> {
        match self.chance.below(12) {
            0 => self.chance.one(&[&b""[..], b"a\0", b"user./."]).to_vec(),
            1 => vec![b'x'; 255 + self.chance.below(2)],
            _ => format!("user.{}", self.chance.below(24)).into_bytes(),
        }
    }

    fn value(&self) -> Vec<u8> {
        let size = match self.chance.below(12) {
            0 => self
                .chance
                .one(&[4096, 4204, 5000, 8192, 16385, 40000, 65536, 65537, 65537]),
            1..=3 => self.chance.below(5000),
            _ => self.chance.below(30),
        };
        vec![self.chance.next() as u8; size]
    }

    /// Some that a new file begins with, now and then.
    pub(super) fn attributes(&self) -> BTreeMap<Vec<u8>, Arc<[u8]>> {
        let count = match self.chance.below(12) {
            0 => 1 + self.chance.below(3),
            _ => 0,
        };
        let some = (0..count).map(|_| (self.attribute_name(), self.value()));
        some.filter(|(name, value)| Model::may_have(name, value.len()).is_ok())
            .map(|(name, value)| (name, value.into()))
            .collect()
    }

    pub(super) fn attribute(
        &mut self,
        files: Files<'_, Simulated>,
        model: &mut Model,
        now: Timestamp,
    ) -> Result<(), String> {
        let file = self.file(model);
        let there: Vec<Vec<u8>> = (model.files.get(&file).into_iter())
            .flat_map(|f| f.attributes.keys().cloned())
            .collect();
        let name = match there.is_empty() || self.chance.below(3) == 0 {
            true => self.attribute_name(),
            false => there[self.chance.below(there.len())].clone(),
        };
        let number = InodeNo(file);
        match self.chance.below(8) {
            0 => {
                let done = files.attribute(number, &name);
                let same = model.attribute(file, &name);
                let same_value = same.map(<[u8]>::to_vec);
                match self.note("getxattr", done, same.map(|_| ()))? {
                    Some(value) if same_value.as_deref() != Ok(&value[..]) => {
                        Err("getxattr: another value".into())
                    }
                    _ => Ok(()),
                }
            }
            1 | 2 => {
                let done = files.remove_attribute(number, &name, &Attributes::default(), now);
                let same = model.remove_attribute(file, &name, now);
                self.note("removexattr", done, same).map(|_| ())
            }
            _ => {
                let ways = [
                    (Put::Any, None),
                    (Put::Create, Some(false)),
                    (Put::Replace, Some(true)),
                ];
                let (put, there) = self.chance.one(&ways);
                let value = self.value();
                let permissions = self.chance.next() as u16 & 0o7777;
                let to = Attributes {
                    permissions: (self.chance.below(3) == 0).then_some(permissions),
                    ..Attributes::default()
                };
                let new = Extended {
                    name: &name,
                    value: &value,
                };
                let done = files.set_attribute(number, new, put, &to, now);
                let same = model.set_attribute(file, (&name, &value), there, now);
                if self.note("setxattr", done, same)?.is_some() {
                    let file = model.files.get_mut(&file).ok_or("no such file")?;
                    file.permissions = to.permissions.unwrap_or(file.permissions);
                }
                Ok(())
            }
        }
    }
}

/// The extended attributes that a file has, listed `batch` at a time.
pub(super) fn all(
    files: Files<'_, Simulated>,
    number: InodeNo,
    batch: usize,
) -> Result<BTreeMap<Vec<u8>, Arc<[u8]>>, Error> {
    let mut all = BTreeMap::new();
    let mut from = Some(Mark::FIRST);
    while let Some(mark) = from {
        let some = files.attributes(number, mark, batch)?;
        for name in &some.names {
            let value = files.attribute(number, name)?;
            let size = files.attribute_size(number, name)?;
            if size != value.len() || all.insert(name.to_vec(), value[..].into()).is_some() {
                return Err(Error::Invalid);
            }
        }
        from = some.next;
    }
    Ok(all)
}
