// SPDX-License-Identifier: GPL-2.0

//! Signatures of what a device may already hold. Better one too many than data lost: a match is by magic alone, without
//! checking the checksums that the other format may have.

use crate::device::FileDevice;
use embr_engine::env::Device;
use std::fmt;
use std::io;

/// Something that was recognised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// What it is, as people call it.
    pub name: &'static str,
    /// The byte at which its magic lies.
    pub at: u64,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (signature at byte {})", self.name, self.at)
    }
}

/// A magic at a fixed place from the begin of the device.
struct Magic(&'static str, u64, &'static [u8]);

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

const MAGICS: &[Magic] = &[
    Magic("embrfs", 64 * KIB, b"embrfsSB"),
    Magic("embrfs", 8 * MIB + 64 * KIB, b"embrfsSB"),
    Magic("embrfs", 1024 * MIB + 64 * KIB, b"embrfsSB"),
    Magic("xfs", 0, b"XFSB"),
    Magic("btrfs", 64 * KIB + 0x40, b"_BHRfS_M"),
    Magic("LUKS", 0, b"LUKS\xba\xbe"),
    Magic("LUKS (second header)", 16 * KIB, b"SKUL\xba\xbe"),
    Magic("LVM2 physical volume", 24, b"LVM2 001"),
    Magic("LVM2 physical volume", 512 + 24, b"LVM2 001"),
    Magic("LVM2 physical volume", 1024 + 24, b"LVM2 001"),
    Magic("LVM2 physical volume", 1536 + 24, b"LVM2 001"),
    Magic("md RAID (1.1)", 0, &MD),
    Magic("md RAID (1.2)", 4 * KIB, &MD),
    Magic("ntfs", 3, b"NTFS    "),
    Magic("exfat", 3, b"EXFAT   "),
    Magic("BitLocker", 3, b"-FVE-FS-"),
    Magic("vfat", 54, b"FAT12   "),
    Magic("vfat", 54, b"FAT16   "),
    Magic("vfat", 82, b"FAT32   "),
    Magic("iso9660", 32 * KIB + 1, b"CD001"),
    Magic("udf", 32 * KIB + 1, b"BEA01"),
    Magic(
        "bcachefs",
        4 * KIB + 24,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    ),
    Magic(
        "bcache or bcachefs",
        4 * KIB + 24,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    Magic("squashfs", 0, b"hsqs"),
    Magic("f2fs", KIB, b"\x10\x20\xf5\xf2"),
    Magic("erofs", KIB, b"\xe2\xe1\xf5\xe0"),
    Magic("nilfs2", KIB + 6, b"\x34\x34"),
    Magic("hfsplus", KIB, b"H+\x00\x04"),
    Magic("hfsplus", KIB, b"HX\x00\x05"),
    Magic("apfs", 32, b"NXSB"),
    Magic("jfs", 32 * KIB, b"JFS1"),
    Magic("reiserfs", 64 * KIB + 0x34, b"ReIsEr"),
    Magic("ceph bluestore", 0, b"bluestore block device"),
    Magic("GPT partition table", 512, b"EFI PART"),
    Magic("GPT partition table", 4 * KIB, b"EFI PART"),
];

const MD: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

/// Reads all that are asked for through one buffer.
struct Reader<'a> {
    device: &'a FileDevice,
    size: u64,
}

impl Reader<'_> {
    fn bytes(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        let have = if at < self.size {
            self.device.peek(at, &mut buffer)?
        } else {
            0
        };
        buffer.truncate(have);
        Ok(buffer)
    }

    fn is(&self, at: u64, magic: &[u8]) -> io::Result<bool> {
        Ok(self.bytes(at, magic.len())? == magic)
    }
}

/// Everything that is recognised on `device`, each kind of thing once, in the order of the list.
pub fn detect(device: &FileDevice) -> io::Result<Vec<Signature>> {
    let reader = Reader {
        device,
        size: device.size().0,
    };
    let mut found: Vec<Signature> = Vec::new();
    let mut add = |name: &'static str, at: u64| {
        if !found.iter().any(|s| s.name == name) {
            found.push(Signature { name, at });
        }
    };
    for Magic(name, at, magic) in MAGICS {
        if reader.is(*at, magic)? {
            add(name, *at);
        }
    }
    if let Some(name) = ext(&reader)? {
        add(name, KIB + 0x38);
    }
    if let Some(at) = swap(&reader)? {
        add("swap", at);
    }
    if let Some((name, at)) = md_at_end(&reader)? {
        add(name, at);
    }
    if let Some(at) = zfs(&reader)? {
        add("zfs", at);
    }
    for sector in [512, 4 * KIB] {
        let at = reader.size.saturating_sub(sector);
        if at > 0 && reader.is(at, b"EFI PART")? {
            add("GPT partition table (backup)", at);
        }
    }
    if mbr(&reader)? {
        add("MBR partition table", 510);
    }
    Ok(found)
}

/// The three ext filesystems share a magic; their features tell them apart.
fn ext(reader: &Reader<'_>) -> io::Result<Option<&'static str>> {
    const EXTENTS_OR_64BIT_OR_FLEX_BG: u32 = 0x40 | 0x80 | 0x200;
    const HAS_JOURNAL: u32 = 0x4;
    if !reader.is(KIB + 0x38, b"\x53\xef")? {
        return Ok(None);
    }
    let word = |at: u64| -> io::Result<u32> {
        Ok(reader
            .bytes(KIB + at, 4)?
            .first_chunk()
            .map_or(0, |b| u32::from_le_bytes(*b)))
    };
    Ok(Some(if word(0x60)? & EXTENTS_OR_64BIT_OR_FLEX_BG != 0 {
        "ext4"
    } else if word(0x5c)? & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    }))
}

/// Swap has its magic at the end of the first page, whatever a page is on the machine that made it.
fn swap(reader: &Reader<'_>) -> io::Result<Option<u64>> {
    for page in [4, 8, 16, 32, 64].map(|k| k * KIB) {
        for magic in [b"SWAPSPACE2", b"SWAP-SPACE"] {
            if reader.is(page - 10, magic)? {
                return Ok(Some(page - 10));
            }
        }
    }
    Ok(None)
}

/// Two versions of md's superblock lie at the end of a device.
fn md_at_end(reader: &Reader<'_>) -> io::Result<Option<(&'static str, u64)>> {
    if let Some(at) = (reader.size & !(64 * KIB - 1)).checked_sub(64 * KIB) {
        // 0.90 is written in the byte order of its machine.
        if reader.is(at, &MD)? || reader.is(at, &0xa92b_4efc_u32.to_be_bytes())? {
            return Ok(Some(("md RAID (0.90)", at)));
        }
    }
    if let Some(at) = (reader.size & !511)
        .checked_sub(8 * KIB)
        .map(|at| at & !(4 * KIB - 1))
    {
        if reader.is(at, &MD)? {
            return Ok(Some(("md RAID (1.0)", at)));
        }
    }
    Ok(None)
}

/// A ZFS device has four labels of 256 KiB, two at each end; the second half of each is a ring of uberblocks.
fn zfs(reader: &Reader<'_>) -> io::Result<Option<u64>> {
    const LABEL: u64 = 256 * KIB;
    const UBERBLOCK: u64 = 0x00ba_b10c;
    let end = reader.size & !(LABEL - 1);
    let labels = [
        Some(0),
        Some(LABEL),
        end.checked_sub(2 * LABEL),
        end.checked_sub(LABEL),
    ];
    for label in labels.into_iter().flatten() {
        let ring = label + LABEL / 2;
        let bytes = reader.bytes(ring, (LABEL / 2) as usize)?;
        for (at, block) in (ring..)
            .step_by(KIB as usize)
            .zip(bytes.chunks(KIB as usize))
        {
            if block
                .first_chunk()
                .is_some_and(|b| *b == UBERBLOCK.to_le_bytes() || *b == UBERBLOCK.to_be_bytes())
            {
                return Ok(Some(at));
            }
        }
    }
    Ok(None)
}

/// Boot sectors of filesystems bear the same two bytes as a partition table: the table must also make sense.
fn mbr(reader: &Reader<'_>) -> io::Result<bool> {
    let sector = reader.bytes(0, 512)?;
    if sector.get(510..) != Some(&[0x55, 0xaa]) {
        return Ok(false);
    }
    let entries = sector.get(446..510).unwrap_or_default().chunks_exact(16);
    let mut used = 0;
    for entry in entries {
        let &[active, _, _, _, kind, _, _, _, ref place @ ..] = entry else {
            return Ok(false);
        };
        if !matches!(active, 0 | 0x80) {
            return Ok(false);
        }
        if kind != 0 && place.iter().any(|b| *b != 0) {
            used += 1;
        }
    }
    Ok(used > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Claim;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const SIZE: u64 = 40 * MIB + 12 * KIB + 512;

    fn found(name: &str, writes: &[(u64, &[u8])]) -> Vec<&'static str> {
        let path = std::env::temp_dir().join(format!(
            "embrfs-signature-{}-{}",
            std::process::id(),
            name.replace('/', "-")
        ));
        let file = File::create(&path).unwrap();
        file.set_len(SIZE).unwrap();
        for (at, bytes) in writes {
            file.write_all_at(bytes, *at).unwrap();
        }
        let all = detect(&FileDevice::open(&path, Claim::Shared).unwrap()).unwrap();
        std::fs::remove_file(path).unwrap();
        all.iter().map(|s| s.name).collect()
    }

    #[test]
    fn nothing_on_an_empty_device() {
        assert_eq!(found("empty", &[]), [""; 0]);
    }

    #[test]
    fn every_magic_at_its_place_and_nowhere_else() {
        for (i, Magic(name, at, magic)) in MAGICS.iter().enumerate().filter(|(_, m)| m.1 < SIZE) {
            assert_eq!(found(&format!("magic-{i}"), &[(*at, magic)]), [*name]);
            assert_eq!(
                found(&format!("beside-{i}"), &[(*at + 1, magic)]),
                [""; 0],
                "{name}"
            );
        }
    }

    #[test]
    fn those_that_need_more_than_a_table() {
        let magic: (u64, &[u8]) = (1080, b"\x53\xef");
        assert_eq!(found("ext2", &[magic]), ["ext2"]);
        assert_eq!(found("ext3", &[magic, (1024 + 0x5c, &[4])]), ["ext3"]);
        assert_eq!(
            found(
                "ext4",
                &[magic, (1024 + 0x5c, &[4]), (1024 + 0x60, &[0x40])]
            ),
            ["ext4"]
        );
        assert_eq!(found("swap4", &[(4086, b"SWAPSPACE2")]), ["swap"]);
        assert_eq!(found("swap64", &[(65526, b"SWAPSPACE2")]), ["swap"]);
        assert_eq!(
            found("md090", &[((SIZE & !65535) - 65536, &MD)]),
            ["md RAID (0.90)"]
        );
        let v10 = ((SIZE / 512) - 16) & !7;
        assert_eq!(found("md10", &[(v10 * 512, &MD)]), ["md RAID (1.0)"]);
        for (n, label) in [0, 256 * KIB, 40 * MIB - 512 * KIB, 40 * MIB - 256 * KIB]
            .iter()
            .enumerate()
        {
            let at = label + 128 * KIB + 5 * KIB;
            assert_eq!(
                found(&format!("zfs-{n}"), &[(at, &0x00ba_b10c_u64.to_le_bytes())]),
                ["zfs"]
            );
        }
        assert_eq!(
            found("gpt-end", &[(SIZE - 512, b"EFI PART")]),
            ["GPT partition table (backup)"]
        );
    }

    #[test]
    fn a_partition_table_must_have_a_partition() {
        let entry = [0x80, 1, 1, 0, 0x83, 254, 255, 255, 0, 8, 0, 0, 0, 0, 1, 0];
        assert_eq!(
            found("mbr", &[(446, &entry), (510, b"\x55\xaa")]),
            ["MBR partition table"]
        );
        assert_eq!(found("boot-sector", &[(510, b"\x55\xaa")]), [""; 0]);
        assert_eq!(
            found("boot-code", &[(446, &[0x33; 64]), (510, b"\x55\xaa")]),
            [""; 0]
        );
    }
}
