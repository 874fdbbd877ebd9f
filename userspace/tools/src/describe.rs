// SPDX-License-Identifier: GPL-2.0

//! Sizes, times and the engine's structures, as people read them and as JSON.

use embr_engine::format::epoch::Epoch;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::member::Entry;
use embr_engine::format::member::Members;
use embr_engine::format::member::State;
use embr_engine::format::superblock::BlockHash;
use embr_engine::format::superblock::Superblock;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::Timestamp;
use serde_json::json;
use serde_json::Value;

/// A size with the binary unit that suits it.
pub fn size(bytes: Bytes) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes.0 as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS {
        unit = next;
        if value < 1024.0 {
            break;
        }
        if next != "EiB" {
            value /= 1024.0;
        }
    }
    format!("{value:.1} {unit}")
}

/// The size of so many blocks.
pub fn blocks(count: Blocks) -> String {
    size(count.bytes().unwrap_or(Bytes(u64::MAX)))
}

/// So many blocks in bytes.
pub fn bytes_of(count: Blocks) -> u64 {
    count.bytes().map_or(u64::MAX, |b| b.0)
}

/// What files may lose, in words.
pub fn tolerance(geometry: Geometry) -> String {
    match geometry.parity() {
        0 => "nothing: the loss of any device loses data".to_owned(),
        1 => "any one device".to_owned(),
        m => format!("any {m} devices"),
    }
}

/// A geometry for programs.
pub fn geometry_json(geometry: Geometry) -> Value {
    json!({ "data": geometry.data(), "parity": geometry.parity() })
}

/// A moment in UTC, as in 2031-05-06T07:08:09Z.
pub fn time(moment: Timestamp) -> String {
    let days = moment.seconds.div_euclid(86_400);
    let second = moment.seconds.rem_euclid(86_400);
    // Days to a date by eras of 400 years that begin in March, so that leap days come last.
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A moment for programs.
pub fn time_json(moment: Timestamp) -> Value {
    json!({ "text": time(moment), "seconds": moment.seconds, "nanoseconds": moment.nanos })
}

/// Slots of a set, as in 0-3,7.
pub fn members(set: Members) -> String {
    let mut text = String::new();
    let mut slot = 0u32;
    while slot < u64::BITS {
        let run = (set.0 >> slot).trailing_ones();
        if run > 0 {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&slot.to_string());
            if run > 1 {
                text.push_str(&format!("-{}", slot + run - 1));
            }
        }
        slot += run.max(1);
    }
    if text.is_empty() {
        text.push_str("none");
    }
    text
}

fn slots(set: Members) -> Vec<u32> {
    (0..u64::BITS)
        .filter(|slot| (set.0 >> slot) & 1 != 0)
        .collect()
}

/// An epoch for programs.
pub fn epoch_json(epoch: &Epoch) -> Value {
    json!({
        "id": epoch.id.to_string(),
        "parent": (epoch.number > 1).then(|| epoch.parent.to_string()),
        "number": epoch.number,
        "after_generation": epoch.after.0,
        "present_slots": slots(epoch.present),
        "absent_slots": slots(epoch.absent),
    })
}

/// A device-table entry for programs.
pub fn entry_json(entry: &Entry) -> Value {
    json!({
        "slot": entry.slot.index(),
        "number": entry.id.0,
        "uuid": entry.uuid.to_string(),
        "state": state(entry.state),
        "class": entry.class,
        "failure_domain": entry.failure_domain,
        "size": entry.bytes().0,
        "joined_at_generation": entry.joined,
    })
}

/// A device's state in a word.
pub fn state(state: State) -> &'static str {
    match state {
        State::Member => "member",
        State::Removed => "removed",
    }
}

/// Bits kept of each block's hash.
pub fn hash_bits(hash: BlockHash) -> u32 {
    u32::from(hash.size()) * 8
}

/// A superblock for programs.
pub fn superblock_json(superblock: &Superblock) -> Value {
    json!({
        "volume_uuid": superblock.volume.to_string(),
        "label": superblock.label.as_str(),
        "device_number": superblock.device.0,
        "device_uuid": superblock.this_device().map(|e| e.uuid.to_string()),
        "sequence": superblock.sequence,
        "features": {
            "compatible": superblock.features.compatible,
            "read_only_compatible": superblock.features.read_only,
            "incompatible": superblock.features.incompatible,
        },
        "created": time_json(superblock.created),
        "block_hash_bits": hash_bits(superblock.block_hash),
        "geometry": geometry_json(superblock.geometry),
        "next_device_number": superblock.next_device.0,
        "devices": superblock.members.iter().map(entry_json).collect::<Vec<_>>(),
        "epochs": superblock.epochs.iter().map(epoch_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0.0 KiB"),
            (512, "0.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (1536 << 20, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(Bytes(bytes)), text);
        }
    }

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(time(Timestamp { seconds, nanos: 0 }), text);
        }
        let _ = time(Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        });
        let _ = time(Timestamp {
            seconds: i64::MIN,
            nanos: 0,
        });
    }

    #[test]
    fn sets() {
        assert_eq!(members(Members(0)), "none");
        assert_eq!(members(Members(0b1000_1111)), "0-3,7");
        assert_eq!(members(Members(u64::MAX)), "0-63");
    }
}
