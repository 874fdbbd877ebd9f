// SPDX-License-Identifier: GPL-2.0

//! mkfs.embrfs over image files.

mod common;

use common::*;
use embr_engine::env::Environment;
use embr_engine::format::inode::Inode;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::volume::assemble;
use embr_engine::volume::mounted::TREES;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embrfs_host::device::Claim;
use embrfs_host::machine::Process;
use embrfs_host::machine::Slots;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use proptest::prelude::*;

#[test]
fn every_width_is_made_found_and_clean() {
    for (k, m) in [
        (1, 0),
        (1, 1),
        (1, 4),
        (2, 1),
        (3, 3),
        (4, 2),
        (8, 3),
        (16, 0),
        (16, 4),
    ] {
        let dir = Dir::new();
        let devices = dir.images(k + m, 32);
        let bundle = format!("{k}+{m}");
        let made = mkfs(
            &["--json", "--bundle", &bundle, "--label", "Grüße"],
            &devices,
        )
        .expect(0)
        .json();
        assert_eq!(made["ok"], true);
        assert_eq!(made["geometry"]["data"], k);
        assert_eq!(made["geometry"]["parity"], m);
        assert_eq!(made["devices"].as_array().unwrap().len(), k + m);
        assert_eq!(made["capacity"], (k as u64) * 26 * MIB);
        fsck(&["-n"], &devices).expect(0);
        let listed = admin(&["devices", "--json"], &devices).expect(0).json();
        assert_eq!(listed["volumes"][0]["uuid"], made["uuid"]);
        assert_eq!(listed["volumes"][0]["label"], "Grüße");
        assert_eq!(listed["volumes"][0]["state"], "complete");
    }
}

/// The root directory, of which every copy of every node is sound.
fn root_directory(devices: &[String]) -> Inode {
    let host = Host::new().unwrap();
    let devices: Vec<FileDevice> = devices
        .iter()
        .map(|path| FileDevice::open(path.as_ref(), Claim::Shared).unwrap())
        .collect();
    let members: Vec<_> = devices
        .iter()
        .map(|device| probe(device, host.hasher()).unwrap())
        .collect();
    let volume = assemble(&members).unwrap();
    let process = Process::new(Slots::of_volume(&volume, &devices), &host, |event| {
        panic!("{event:?}")
    });
    let options = Options {
        read_only: true,
        degraded: false,
        cache: Bytes(1 << 20),
        dirty: Bytes(1 << 20),
    };
    let mounted = Mounted::open(process, &volume, &members, options).unwrap();
    assert_eq!(mounted.bases().count(), TREES.len());
    let names = Names::try_new(HashWidth::Full).unwrap();
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.inode(InodeNo::ROOT).unwrap()
}

#[test]
fn a_new_volume_has_a_root_directory() {
    for (count, options, owner) in [
        (1, &[][..], (0, 0)),
        (3, &["--root-owner", "1000:100"], (1000, 100)),
    ] {
        let dir = Dir::new();
        let devices = dir.images(count, 32);
        mkfs(options, &devices).expect(0);
        let root = root_directory(&devices);
        assert!(root.is_directory());
        assert_eq!((root.permissions, root.nlink, root.entries), (0o755, 2, 0));
        assert_eq!((root.uid, root.gid), owner);
    }
    mkfs(&["--root-owner", "root"], &["nothing".to_owned()]).expect(2);
}

#[test]
fn the_default_suits_the_number_of_devices_and_is_said() {
    for (count, bundle) in [(1, "1+0"), (2, "1+1"), (3, "2+1"), (4, "2+2"), (6, "4+2")] {
        let dir = Dir::new();
        let done = mkfs(&[], &dir.images(count, 32)).expect(0);
        assert!(done.out.contains(&format!("{bundle} (")), "{}", done.out);
        assert!(
            done.out.contains("chosen for this number of devices"),
            "{}",
            done.out
        );
    }
}

#[test]
fn replicas_are_bundles_of_one() {
    let dir = Dir::new();
    let made = mkfs(&["--json", "--replicas", "3"], &dir.images(4, 32))
        .expect(0)
        .json();
    assert_eq!(
        made["geometry"],
        serde_json::json!({ "data": 1, "parity": 2 })
    );
    for wrong in [
        &["--replicas", "0"][..],
        &["--replicas", "2", "--bundle", "1+1"],
    ] {
        mkfs(wrong, &dir.images(4, 32)).expect(2);
    }
    mkfs(&["--replicas", "6"], &dir.images(8, 32)).expect(1);
}

#[test]
fn a_dry_run_and_a_refusal_write_nothing() {
    let dir = Dir::new();
    let devices = dir.images(3, 32);
    assert!(mkfs(&["-n"], &devices)
        .expect(0)
        .out
        .contains("nothing was written"));
    mkfs(&["--bundle", "4+2"], &devices).expect(1);
    mkfs(&["--bundle", "17+0"], &devices).expect(1);
    mkfs(&[], &[devices[0].clone(), devices[0].clone()]).expect(1);
    assert!(devices.iter().all(blank));
    mkfs(
        &["-n", "--size", "32M"],
        &[dir.path("new").to_str().unwrap().to_owned()],
    )
    .expect(0);
    assert!(!dir.path("new").exists());
}

#[test]
fn devices_are_put_in_failure_domains() {
    let dir = Dir::new();
    let devices = dir.images(6, 32);
    let said = mkfs(&["-n", "--failure-domains", "1,1,2,2"], &devices).expect(2);
    assert!(said.err.contains("4 numbers for 6 devices"), "{}", said.err);
    assert!(devices.iter().all(blank));
    let options = ["--bundle", "4+2", "--failure-domains", "7,7,7,9,9,0"];
    let said = mkfs(&options, &devices).expect(0).out;
    let (of_domain, rest) = ("(failure domain 7)", "(failure domain 9)");
    assert_eq!(said.matches(of_domain).count(), 3, "{said}");
    assert_eq!(said.matches(rest).count(), 2, "{said}");
    let notes: Vec<&str> = said.lines().filter(|l| l.starts_with("note")).collect();
    assert!(
        matches!(notes.as_slice(), [note] if note.contains("failure domain 7 has 3 devices, of which 2 may be missing")),
        "{said}"
    );
}

#[test]
fn impossible_geometry_says_what_is_possible() {
    let dir = Dir::new();
    let devices = dir.images(3, 32);
    let few = mkfs(&["--bundle", "4+2"], &devices).expect(1);
    assert!(
        few.err.contains("needs 6 devices") && few.err.contains("3+0, 2+1, 1+2"),
        "{}",
        few.err
    );
    let wide = mkfs(&["--bundle", "17+0", "--json"], &devices)
        .expect(1)
        .json();
    assert_eq!(wide["error"]["kind"], "geometry");
    for wrong in ["4", "4+", "a+b", "4+2+1"] {
        let usage = mkfs(&["--json", "--bundle", wrong], &devices)
            .expect(2)
            .json();
        assert_eq!(usage["error"]["kind"], "usage");
    }
    let many = mkfs(&["--json"], &dir.images(65, 32)).expect(1).json();
    assert_eq!(many["error"]["kind"], "geometry");
}

#[test]
fn the_same_device_by_any_path_is_refused() {
    let dir = Dir::new();
    let first = dir.image("a", 32);
    let link = dir.path("link");
    std::os::unix::fs::symlink(&first, &link).unwrap();
    let hard = dir.path("hard");
    std::fs::hard_link(&first, &hard).unwrap();
    for other in [&link, &hard, &dir.path("./a")] {
        let done = mkfs(
            &["--json"],
            &[first.clone(), other.to_str().unwrap().to_owned()],
        )
        .expect(1)
        .json();
        assert_eq!(done["error"]["kind"], "duplicate");
    }
    let new = dir.path("new").to_str().unwrap().to_owned();
    let twice = [new.clone(), dir.path("./new").to_str().unwrap().to_owned()];
    mkfs(&["--size", "32M"], &twice).expect(1);
}

#[test]
fn small_and_unequal_devices_get_advice() {
    let dir = Dir::new();
    let small = mkfs(&[], &[dir.image("small", 31)]).expect(1);
    assert!(
        small.err.contains("small") && small.err.contains("32 MiB"),
        "{}",
        small.err
    );
    let empty = mkfs(&["--json"], &[dir.image("empty", 0)]).expect(1).json();
    assert_eq!(empty["error"]["kind"], "size");
    let mut devices = dir.images(2, 32);
    devices.push(dir.image("large", 64));
    let done = mkfs(&["--bundle", "2+1"], &devices).expect(0);
    assert!(
        done.out.contains("large: 32.0 MiB cannot be used"),
        "{}",
        done.out
    );
}

#[test]
fn what_is_no_device_is_refused() {
    let dir = Dir::new();
    for path in ["/", "/dev/null", dir.path("missing").to_str().unwrap()] {
        let done = mkfs(&["--json"], &[path.to_owned()]).expect(1).json();
        assert_eq!(done["error"]["kind"], "device");
    }
}

/// One of each kind; where each format has its magic, the host library's own tests check.
#[test]
fn known_signatures_need_force() {
    let zfs = 0x00ba_b10c_u64.to_le_bytes();
    let md = 0xa92b_4efc_u32.to_le_bytes();
    let partition = [
        &[0x80, 1, 1, 0, 0x83, 254, 255, 255, 0, 8, 0, 0, 0, 0, 1, 0][..],
        &[0; 48],
        b"\x55\xaa",
    ]
    .concat();
    let known: [(&str, u64, &[u8]); 23] = [
        ("ext2", 1080, b"\x53\xef"),
        ("xfs", 0, b"XFSB"),
        ("btrfs", 65600, b"_BHRfS_M"),
        ("embrfs", 65536, b"embrfsSB"),
        ("swap", 4086, b"SWAPSPACE2"),
        ("LUKS", 0, b"LUKS\xba\xbe"),
        ("LVM2", 536, b"LVM2 001"),
        ("md RAID (0.90)", (32 << 20) - 65536, &md),
        ("md RAID (1.0)", (32 << 20) - 8192, &md),
        ("md RAID (1.1)", 0, &md),
        ("md RAID (1.2)", 4096, &md),
        ("ntfs", 3, b"NTFS    "),
        ("vfat", 82, b"FAT32   "),
        ("iso9660", 32769, b"CD001"),
        ("zfs", 131_072, &zfs),
        (
            "bcachefs",
            4120,
            b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        ),
        ("GPT", 512, b"EFI PART"),
        ("GPT", (32 << 20) - 512, b"EFI PART"),
        ("MBR", 446, &partition),
        ("squashfs", 0, b"hsqs"),
        ("f2fs", 1024, b"\x10\x20\xf5\xf2"),
        ("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
        ("exfat", 3, b"EXFAT   "),
    ];
    let dir = Dir::new();
    for (name, at, magic) in known {
        let device = [dir.image("d", 32)];
        write_at(&device[0], at, magic);
        let before = read_at(&device[0], 0, 1 << 20);
        let refused = mkfs(&["--json"], &device).expect(1).json();
        assert_eq!(refused["error"]["kind"], "signature", "{name}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(name) && message.contains("at byte"),
            "{name}: {message}"
        );
        assert_eq!(read_at(&device[0], 0, 1 << 20), before);
        mkfs(&["--force"], &device).expect(0);
        let left = read_at(&device[0], at, magic.len());
        assert!(name == "embrfs" || left != magic, "{name} is still there");
        fsck(&["-n"], &device).expect(0);
    }
}

#[test]
fn uuid_and_label_are_kept_and_checked() {
    let dir = Dir::new();
    let device = [dir.image("d", 32)];
    let uuid = "2c4ae2b6-5a1c-4c6b-9d3e-0f5a7c1b8e42";
    let made = mkfs(&["--json", "--uuid", uuid, "-L", "x"], &device)
        .expect(0)
        .json();
    assert_eq!(made["uuid"], uuid);
    let shown = admin(&["dump", "super", "--json"], &device)
        .expect(0)
        .json();
    assert_eq!(shown["superblock"]["volume_uuid"], uuid);
    assert_eq!(shown["superblock"]["label"], "x");
    let long = "x".repeat(129);
    for wrong in [
        ["--uuid", "2c4a"],
        ["--uuid", "00000000-0000-0000-0000-000000000000"],
        ["--label", &long],
        ["--label", "a\nb"],
    ] {
        mkfs(&wrong, &device).expect(2);
    }
}

#[test]
fn block_hash_sizes() {
    let dir = Dir::new();
    let device = [dir.image("d", 32)];
    for bits in ["64", "256"] {
        mkfs(&["-f", "--block-hash", bits], &device).expect(0);
        let shown = admin(&["dump", "super", "--json"], &device)
            .expect(0)
            .json();
        assert_eq!(shown["superblock"]["block_hash_bits"].to_string(), bits);
    }
    mkfs(&["-f", "--block-hash", "128"], &device).expect(2);
}

#[test]
fn image_files_are_made_and_grown_on_request() {
    let dir = Dir::new();
    let new = dir.path("new").to_str().unwrap().to_owned();
    let devices = [new, dir.image("small", 1), dir.image("large", 64)];
    let made = mkfs(&["--json", "--size", "32M"], &devices)
        .expect(0)
        .json();
    let sizes: Vec<u64> = made["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["size"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [32 * MIB, 32 * MIB, 64 * MIB]);
    fsck(&["-n"], &devices).expect(0);
}

#[test]
fn quiet_says_nothing_and_help_survives_a_closed_pipe() {
    let dir = Dir::new();
    let done = mkfs(&["-q"], &dir.images(1, 32)).expect(0);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("", ""));
    // The shell's own status is the tool's; true reads nothing.
    let script = r#"(sleep 0.2; "$0" -f "$1"; echo $? >&3) 3>"$1.rc" | true"#;
    let image = dir.image("d", 32);
    let status = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_mkfs-embrfs"), &image])
        .status();
    assert!(status.unwrap().success());
    assert_eq!(
        std::fs::read_to_string(format!("{image}.rc"))
            .unwrap()
            .trim(),
        "0"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Any sizes: what is made is clean, and what it says of its devices adds up.
    #[test]
    fn unequal_devices_add_up(sizes in prop::collection::vec(32u64..80, 1..7), m in 0u8..3) {
        let dir = Dir::new();
        let devices: Vec<String> = sizes.iter().enumerate().map(|(i, mib)| dir.image(&format!("d{i}"), *mib)).collect();
        let bundle = format!("1+{m}");
        let done = mkfs(&["--json", "--bundle", &bundle], &devices);
        if usize::from(m) + 1 > sizes.len() {
            prop_assert_eq!(done.code, 1);
        } else {
            let made = done.expect(0).json();
            let usable: u64 = made["devices"].as_array().unwrap().iter().map(|d| d["usable"].as_u64().unwrap()).sum();
            let capacity = made["capacity"].as_u64().unwrap();
            prop_assert!(capacity * u64::from(m + 1) <= usable);
            fsck(&["-n"], &devices).expect(0);
        }
    }
}
