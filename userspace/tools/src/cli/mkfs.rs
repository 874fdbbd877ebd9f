// SPDX-License-Identifier: GPL-2.0

//! The command line of mkfs.embrfs.

use super::sections;
use super::Section;
use clap::Parser;
use clap::ValueEnum;
use embr_engine::format::superblock::Label;
use embr_engine::format::superblock::LABEL_SIZE;
use embr_engine::units::Bytes;
use embr_engine::units::Uuid;
use std::path::PathBuf;

/// What stands below the options.
pub const SECTIONS: &[Section] = &[
    (
        "Geometry",
        "Every stripe has K data and M parity fragments, each on a device of its own. Any M devices may be\n\
         lost; K of every K+M bytes carry data. More devices than K+M are welcome: stripes spread over all.\n\
         Without --bundle and --replicas: one device 1+0, two 1+1, three 2+1, more (n-2)+2 with K up to 16.",
    ),
    (
        "Examples",
        "mkfs.embrfs --bundle 4+2 /dev/vd[b-g]      six devices, any two may be lost\n\
         mkfs.embrfs --replicas 3 /dev/sd[a-c]      three copies of everything\n\
         mkfs.embrfs -n /dev/sdb /dev/sdc           say what would be done, write nothing\n\
         mkfs.embrfs --size 256M disk.img           make an image file",
    ),
    (
        "Exit status",
        "0  the volume was made, read back and found sound (with -n: could be made)\n\
         1  refused, or failed; devices are untouched unless the message says otherwise\n\
         2  the command line is wrong",
    ),
];

/// Make an embrfs volume.
///
/// Makes one volume on all of the devices. Whatever they held is lost: first the places where embrfs and others keep
/// their signatures are wiped on every device, then the new volume is written, and in the end it is read back and
/// verified. Nothing is discarded (TRIM).
///
/// Devices that are mounted or otherwise in use are always refused; devices that hold something known are refused
/// without --force.
#[derive(Parser, Debug)]
#[command(name = "mkfs.embrfs", bin_name = "mkfs.embrfs", version, styles = super::PLAIN, after_long_help = sections(SECTIONS))]
pub struct Args {
    /// K data and M parity fragments per stripe: K from 1 to 16, M from 0 to 4
    #[arg(long, value_name = "K+M", value_parser = bundle, conflicts_with = "replicas")]
    pub bundle: Option<(u8, u8)>,

    /// N copies of everything; the same as --bundle 1+(N-1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub replicas: Option<u8>,

    /// Name of the volume, up to 128 bytes
    #[arg(short = 'L', long, value_name = "TEXT", value_parser = label, default_value = "", hide_default_value = true)]
    pub label: String,

    /// UUID of the volume, instead of a random one
    #[arg(short = 'U', long, value_name = "UUID", value_parser = uuid)]
    pub uuid: Option<Uuid>,

    /// Bits kept of the BLAKE3 hash of each block; 256 costs a little more room
    #[arg(long, value_name = "BITS", default_value = "64")]
    pub block_hash: BlockHashBits,

    /// Owner and group of the root directory, as numbers
    #[arg(long, value_name = "UID:GID", value_parser = owner, default_value = "0:0")]
    pub root_owner: Owner,

    /// Make image files that do not exist, and grow smaller ones, to this size (as in 512M or 4G); no block devices
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub size: Option<Bytes>,

    /// Which devices are expected to fail together: a number for each device, in order, the same for those of one enclosure or
    /// host, 0 for one that stands alone. Copies, and fragments of a stripe, go to different ones as far as there is room
    #[arg(long, value_name = "N,N...", value_delimiter = ',')]
    pub failure_domains: Vec<u32>,

    /// Overwrite devices that hold a known filesystem, RAID or partition table
    #[arg(short, long)]
    pub force: bool,

    /// Check everything and say what would be done; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Print one JSON document, whether it works or not
    #[arg(long)]
    pub json: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,

    /// Block devices or image files
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<PathBuf>,
}

/// Choices of `--block-hash`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum BlockHashBits {
    /// 64 bits.
    #[value(name = "64")]
    Short,
    /// 256 bits.
    #[value(name = "256")]
    Full,
}

/// Whose a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

fn owner(text: &str) -> Result<Owner, String> {
    // The highest number means "nobody's" in system calls.
    let number = |text: &str| text.parse().ok().filter(|n| *n != u32::MAX);
    let parsed = text.split_once(':').and_then(|(uid, gid)| {
        Some(Owner {
            uid: number(uid)?,
            gid: number(gid)?,
        })
    });
    parsed.ok_or_else(|| "two numbers joined by a colon, as in 1000:1000".to_owned())
}

fn bundle(text: &str) -> Result<(u8, u8), String> {
    let parsed = text
        .split_once('+')
        .and_then(|(k, m)| Some((k.trim().parse().ok()?, m.trim().parse().ok()?)));
    parsed.ok_or_else(|| "two numbers joined by a plus, as in 4+2".to_owned())
}

fn label(text: &str) -> Result<String, String> {
    match Label::new(text) {
        Some(_) => Ok(text.to_owned()),
        None if text.len() > LABEL_SIZE => {
            Err(format!("{} bytes, but {LABEL_SIZE} at most", text.len()))
        }
        None => Err("no control characters".to_owned()),
    }
}

fn uuid(text: &str) -> Result<Uuid, String> {
    match Uuid::from_text(text) {
        Some(uuid) if uuid == Uuid::default() => Err("all zeros is no UUID".to_owned()),
        Some(uuid) => Ok(uuid),
        None => Err("32 hexadecimal digits, as in 2c4ae2b6-5a1c-4c6b-9d3e-0f5a7c1b8e42".to_owned()),
    }
}

pub(super) fn size(text: &str) -> Result<Bytes, String> {
    let wrong = || "a number of bytes, or one with K, M, G or T behind it".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text
        .get(digits.len()..)
        .unwrap_or_default()
        .to_ascii_uppercase()
        .trim_end_matches("IB")
    {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1 << shift)
        .map(Bytes)
        .ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(bundle("4+2"), Ok((4, 2)));
        for bad in ["", "4", "4+", "+2", "4+2+1", "-1+2", "300+2", "4x2"] {
            assert!(bundle(bad).is_err(), "{bad}");
        }
        let whose = Owner { uid: 0, gid: 1000 };
        assert_eq!(owner("0:1000"), Ok(whose));
        for bad in [
            "",
            "0",
            ":",
            "0:",
            "root:root",
            "4294967295:0",
            "-1:0",
            "0:0:0",
        ] {
            assert!(owner(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64M"), Ok(Bytes(64 << 20)));
        assert_eq!(size("2GiB"), Ok(Bytes(2 << 30)));
        assert_eq!(size("4096"), Ok(Bytes(4096)));
        for bad in [
            "",
            "M",
            "4X",
            "99999999999999999999",
            "18446744073709551615K",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(uuid("00000000-0000-0000-0000-000000000000").is_err());
        assert!(label(&"x".repeat(129)).is_err());
        assert!(label("a\nb").is_err());
    }
}
