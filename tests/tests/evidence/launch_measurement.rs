//! Launch digests: against recorded ones, against crate `sev`, against `sev-snp-measure`, and under bad input.
//!
//! Crate `sev` believes the firmware's tables and panics where they lie; it is asked only about images that we accept.

use super::independent;
use postern_host::measure::{
    CpuModel, Firmware, FirmwareError, GuestFeatures, KernelError, KernelHashes, Launch, VcpuError,
};
use proptest::prelude::*;
use sev::measurement::snp::{SnpMeasurementArgs, snp_calc_launch_digest};
use sev::measurement::vcpu_types::CpuType;
use sev::measurement::vmsa::{GuestFeatures as SevFeatures, VMMType};
use sev::parser::ByteParser;
use std::path::{Path, PathBuf};

const PAGE: usize = 4096;
const SNP_ACTIVE: GuestFeatures = GuestFeatures(1);
const RESET_BLOCK: &str = "00f771de-1a7e-4fcb-890e-68c77e2fb44e";
const HASH_AREA: &str = "7255371f-3a3b-4b04-927b-1da6efa8d454";
const METADATA: &str = "dc886566-984a-4798-a75e-5585a7bf67cc";
const FOOTER: &str = "96b582de-1fb2-45f7-baea-a366c55a082d";

const SEC_MEMORY: u32 = 1;
const SECRETS: u32 = 2;
const CPUID: u32 = 3;
const SVSM_CAA: u32 = 4;
const KERNEL_HASHES: u32 = 0x10;

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/snp").join(name)
}

/// The end of an OVMF that checks kernels.
fn amd_sev() -> Vec<u8> {
    std::fs::read(vector("ovmf_AmdSev_suffix.bin")).expect("a vector")
}

/// The end of one that does not.
fn ovmf_x64() -> Vec<u8> {
    std::fs::read(vector("ovmf_OvmfX64_suffix.bin")).expect("a vector")
}

fn cpu(name: &str) -> CpuModel {
    name.parse().expect("a known model")
}

fn digest(firmware: &[u8], kernel: Option<&KernelHashes>, vcpus: u32, model: &str) -> String {
    let firmware = Firmware::parse(firmware.to_vec()).expect("a firmware");
    let launch = Launch::new(&firmware, kernel).expect("a launch");
    hex::encode(launch.digest(vcpus, cpu(model), SNP_ACTIVE).expect("vCPUs").0)
}

#[test]
fn recorded_digests_come_out() {
    let firmware = amd_sev();
    let kernel = KernelHashes::new(&[0; 4096], &[1; 4096], "console=ttyS0").unwrap();
    let no_initrd = KernelHashes::new(&[0; 4096], &[], "console=ttyS0").unwrap();
    // tests/vectors/snp/PROVENANCE.md, "Launch digests".
    for (kernel, vcpus, model, expected) in [
        (
            None,
            1,
            "EPYC-v4",
            "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d",
        ),
        (
            Some(kernel),
            1,
            "EPYC-v4",
            "bc10bba618c48178f30ad45c871f7034bdd4b54a2565e90c0070b6ba819b75c680521e37af1f607ed90f34a750707ea6",
        ),
        (
            Some(kernel),
            1,
            "EPYC-Milan",
            "df7c314eee6d396f5311581b09d5cbd15acbe5ce63e3bd964e0c28e5eadd59fc1ea16d1d653b8743017b604618a76046",
        ),
        (
            Some(kernel),
            1,
            "EPYC-Genoa",
            "51256e84a61ff3faa97baa910e5534e5969984bb6453567028cb27472a65b0c40d6a36673df4af3e48809373e0d413a6",
        ),
        (
            Some(kernel),
            2,
            "EPYC-v4",
            "28976e470513d397fdaf5ddf8090f299eee4a53b4b8520a753530e6aaa9845ab73a54e9f496dd288d98f50dcd26df53f",
        ),
        (
            Some(kernel),
            4,
            "EPYC-Genoa",
            "7a3002d2e3472e4d745c10dabd82f18bd89fb24daa0ed1f3977b598f327a02148869a403ae9ee3720f9f4d15f01a37cc",
        ),
        (
            Some(no_initrd),
            1,
            "EPYC-v4",
            "91255a97e3cae67c565eacd2e22376b5cd32dcc5007b58fdcb768d9400e341bfb371097765dfda75eb3588c1e91707cd",
        ),
    ] {
        assert_eq!(digest(&firmware, kernel.as_ref(), vcpus, model), expected, "{vcpus} {model} {kernel:?}");
    }
}

#[test]
fn a_firmware_that_checks_no_kernel_can_not_have_one() {
    let firmware = Firmware::parse(ovmf_x64()).unwrap();
    let kernel = KernelHashes::new(&[0], &[], "").unwrap();
    assert_eq!(Launch::new(&firmware, Some(&kernel)).unwrap_err(), FirmwareError::NoKernelHashes);
    assert!(Launch::new(&firmware, None).is_ok());
}

#[test]
fn command_lines_that_tools_read_differently_are_refused() {
    let hashes = |command_line| KernelHashes::new(&[0], &[], command_line);
    for (command_line, found) in
        [(" a", ' '), ("a ", ' '), ("a\n", '\n'), ("\ta", '\t'), (" ", ' '), ("a\u{a0}", '\u{a0}')]
    {
        assert_eq!(hashes(command_line), Err(KernelError::Untrimmed { found }), "{command_line:?}");
    }
    assert_eq!(hashes("quiet\0init=/bin/sh"), Err(KernelError::Nul { position: 5 }));
    assert_eq!(KernelHashes::new(&[], &[], ""), Err(KernelError::Empty));
    // Space inside is the kernel's business, and matters.
    assert_ne!(hashes("a b"), hashes("a  b"));
}

#[test]
fn vcpus_that_can_not_be_are_refused() {
    let launch = Launch::new(&Firmware::parse(amd_sev()).unwrap(), None).unwrap();
    for found in [0, 4097, u32::MAX] {
        assert_eq!(launch.digest(found, cpu("EPYC"), SNP_ACTIVE), Err(VcpuError::Count { found }));
    }
    assert!(launch.digest(4096, cpu("EPYC"), SNP_ACTIVE).is_ok());
    let none = GuestFeatures(0x20);
    assert_eq!(launch.digest(1, cpu("EPYC"), none), Err(VcpuError::NotSnp { found: 0x20 }));
}

#[test]
fn unknown_cpu_models_are_refused_with_the_known_ones() {
    for name in ["", "host", "epyc-v4", "EPYC-v0", "EPYC-v6", "EPYC-Rome-v", "EPYC-Milan-v04", "EPYC-Venice"]
    {
        let error = name.parse::<CpuModel>().unwrap_err();
        assert_eq!(error.found, name);
        assert!(error.to_string().contains("EPYC-v4, "), "{error}");
    }
}

#[test]
fn every_input_changes_the_digest() {
    let firmware = Firmware::parse(amd_sev()).unwrap();
    let mut digests = Vec::new();
    for (kernel, initrd, command_line) in [("k", "", ""), ("l", "", ""), ("k", "i", ""), ("k", "", "c")] {
        let kernel = KernelHashes::new(kernel.as_bytes(), initrd.as_bytes(), command_line).unwrap();
        let launch = Launch::new(&firmware, Some(&kernel)).unwrap();
        for (vcpus, model, features) in
            [(1, "EPYC", 1), (2, "EPYC", 1), (1, "EPYC-Rome", 1), (1, "EPYC", 0x21)]
        {
            digests.push(launch.digest(vcpus, cpu(model), GuestFeatures(features)).unwrap());
        }
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 16);
}

/// An image as a build of OVMF makes it, or one that lies.
#[derive(Debug, Clone)]
struct Image {
    pages: usize,
    filling: u8,
    entries: Vec<(&'static str, Vec<u8>)>,
    version: u32,
    sections: Vec<[u32; 3]>,
}

impl Image {
    /// A good one.
    fn new(sections: Vec<[u32; 3]>) -> Self {
        let area = [0x81_0C00_u32.to_le_bytes(), 0x400_u32.to_le_bytes()].concat();
        let entries = vec![(HASH_AREA, area), (RESET_BLOCK, 0x80_B004_u32.to_le_bytes().to_vec())];
        Self { pages: 2, filling: 0x90, entries, version: 1, sections }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut metadata = b"ASEV".to_vec();
        let count = self.sections.len() as u32;
        for word in [16 + 12 * count, self.version, count].iter().chain(self.sections.iter().flatten()) {
            metadata.extend(word.to_le_bytes());
        }
        let mut table = Vec::new();
        // The metadata lie right before the table, 32 bytes of reset vector behind it.
        let table_len: usize = self.entries.iter().map(|(_, data)| data.len() + 18).sum::<usize>() + 22 + 18;
        let from_end = (32 + table_len + metadata.len()) as u32;
        let metadata_entry = (METADATA, from_end.to_le_bytes().to_vec());
        for (guid, data) in self.entries.iter().chain([&metadata_entry]) {
            table.extend(data);
            table.extend((data.len() as u16 + 18).to_le_bytes());
            table.extend(guid_bytes(guid));
        }
        table.extend((table_len as u16).to_le_bytes());
        table.extend(guid_bytes(FOOTER));
        let tail = [metadata, table, vec![0xF4; 32]].concat();
        let mut image = vec![self.filling; self.pages * PAGE - tail.len()];
        image.extend(tail);
        image
    }

    fn error(&self) -> FirmwareError {
        Firmware::parse(self.bytes()).expect_err("a bad image")
    }
}

fn guid_bytes(guid: &str) -> Vec<u8> {
    let bytes = hex::decode(guid.replace('-', "")).expect("a GUID");
    [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(|index: usize| bytes[index]).to_vec()
}

#[test]
fn firmware_that_lies_is_refused_with_the_reason() {
    use FirmwareError as E;
    let good = Image::new(vec![[0x80_0000, 0x2000, SEC_MEMORY], [0x81_0000, 0x1000, KERNEL_HASHES]]);
    let kernel = KernelHashes::new(&[0], &[], "").unwrap();
    assert!(Launch::new(&Firmware::parse(good.bytes()).unwrap(), Some(&kernel)).is_ok());

    let with = |change: &dyn Fn(&mut Image)| {
        let mut image = good.clone();
        change(&mut image);
        image.error()
    };
    let missing = |entry| E::MissingEntry { entry };
    assert_eq!(with(&|image| drop(image.entries.pop())), missing("SEV-ES reset block"));
    assert_eq!(
        with(&|image| image.entries[1].1.truncate(3)),
        E::ShortEntry { entry: "SEV-ES reset block", expected: 4, found: 3 }
    );
    assert_eq!(with(&|image| image.entries[1].1 = vec![0; 4]), E::ResetAddress);
    assert_eq!(
        with(&|image| image.entries[0].1.truncate(7)),
        E::ShortEntry { entry: "kernel hashes", expected: 8, found: 7 }
    );
    assert_eq!(
        with(&|image| image.entries.push(image.entries[0].clone())),
        E::DuplicateEntry { entry: "kernel hashes" }
    );
    assert_eq!(
        with(&|image| image.entries.push((METADATA, vec![0; 4]))),
        E::DuplicateEntry { entry: "SEV metadata" }
    );
    assert_eq!(with(&|image| image.version = 2), E::MetadataFormat { signature: *b"ASEV", version: 2 });
    assert_eq!(with(&|image| image.sections[1][2] = 5), E::SectionKind { index: 1, kind: 5 });
    // What crate `sev` would take for kind 1.
    assert_eq!(with(&|image| image.sections[0][2] = 0x101), E::SectionKind { index: 0, kind: 0x101 });
    for section in [
        [0x80_0001, 0x1000, SEC_MEMORY],
        [0x80_0000, 0x1001, SEC_MEMORY],
        [0x80_0000, 0, SEC_MEMORY],
        [0x80_0000, 0x2000, SECRETS],
        [0x80_0000, 0x2000, CPUID],
        [0x80_0000, 0x2000, KERNEL_HASHES],
        [0xFFFF_E000, 0x1000, SEC_MEMORY],
        [0xFFFF_F000, 0xFFFF_F000, SEC_MEMORY],
    ] {
        let [address, size, _] = section;
        assert_eq!(with(&|image| image.sections[0] = section), E::SectionPlace { index: 0, address, size });
    }
    assert_eq!(
        with(&|image| image.sections = vec![[0, 0x1000_0000, SEC_MEMORY], [0, 0x1000, SEC_MEMORY]]),
        E::Sections
    );

    // Where hashes go matters only if there are any.
    for (address, size) in
        [(0x81_0F51_u32, 0x400_u32), (0x80_FFFF, 0x400), (0x81_1000, 0x400), (0x81_0C00, 175)]
    {
        let mut image = good.clone();
        image.entries[0].1 = [address.to_le_bytes(), size.to_le_bytes()].concat();
        let firmware = Firmware::parse(image.bytes()).unwrap();
        assert!(Launch::new(&firmware, None).is_ok());
        assert_eq!(Launch::new(&firmware, Some(&kernel)).unwrap_err(), E::HashTable { address, size });
    }
}

#[test]
fn tables_that_lie_about_their_length_are_refused() {
    use FirmwareError as E;
    let good = Image::new(vec![[0x80_0000, 0x1000, SEC_MEMORY]]).bytes();
    let refused = |offset: usize, value: &[u8]| {
        let mut image = good.clone();
        let start = image.len() - offset;
        image[start..start + value.len()].copy_from_slice(value);
        Firmware::parse(image).expect_err("a bad image")
    };
    // Counted from the end: reset vector, footer, then the entry of the metadata.
    const FOOTER_LENGTH: usize = 32 + 18;
    const METADATA_LENGTH: usize = FOOTER_LENGTH + 18;
    const METADATA_OFFSET: usize = METADATA_LENGTH + 4;
    let table_len = 26 + 22 + 22 + 18;
    assert_eq!(refused(FOOTER_LENGTH, &0xFFFF_u16.to_le_bytes()), E::Table { offset: 0 });
    assert_eq!(refused(FOOTER_LENGTH, &17_u16.to_le_bytes()), E::Table { offset: 0 });
    assert_eq!(
        refused(FOOTER_LENGTH, &18_u16.to_le_bytes()),
        E::MissingEntry { entry: "SEV-ES reset block" }
    );
    for length in [0_u16, 17, 71, 0xFFFF] {
        assert_eq!(
            refused(METADATA_LENGTH, &length.to_le_bytes()),
            E::Table { offset: table_len - 18 },
            "{length}"
        );
    }
    for from_end in [0_u32, 15, 8193, u32::MAX] {
        assert_eq!(
            refused(METADATA_OFFSET, &from_end.to_le_bytes()),
            E::MetadataPlace { from_end },
            "{from_end}"
        );
    }
    assert!(matches!(refused(METADATA_OFFSET, &4096_u32.to_le_bytes()), E::MetadataFormat { .. }));
    let metadata = 32 + table_len + 28;
    for size in [0_u32, 16, 27] {
        let mut image = good.clone();
        let start = image.len() - metadata + 4;
        image[start..start + 4].copy_from_slice(&size.to_le_bytes());
        assert_eq!(Firmware::parse(image).unwrap_err(), E::MetadataSize { sections: 1, size });
    }
    assert_eq!(
        refused(metadata - 12, &u32::MAX.to_le_bytes()),
        E::MetadataSize { sections: u32::MAX, size: 28 }
    );
}

#[test]
fn a_cut_firmware_is_refused_wherever_it_is_cut() {
    for image in [amd_sev(), ovmf_x64(), Image::new(vec![]).bytes()] {
        for length in 0..image.len() {
            assert!(Firmware::parse(image[..length].to_vec()).is_err(), "first {length} bytes");
        }
        // From the front, whole pages may go: what the tables say is at the end.
        for length in (0..image.len()).filter(|length| length % PAGE != 0) {
            let found = length;
            let cut = image[image.len() - length..].to_vec();
            assert_eq!(Firmware::parse(cut).unwrap_err(), FirmwareError::Size { found });
        }
    }
    let found = (64 << 20) + PAGE;
    assert_eq!(Firmware::parse(vec![0; found]).unwrap_err(), FirmwareError::Size { found });
}

/// The files of a launch, as crate `sev` and `sev-snp-measure` want them.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(firmware: &[u8], kernel: &[u8], initrd: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        for (name, bytes) in [("firmware", firmware), ("kernel", kernel), ("initrd", initrd)] {
            std::fs::write(folder.path().join(name), bytes).expect("a file");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What crate `sev` says.
fn sev_digest(files: &Files, append: Option<&str>, vcpus: u32, model: CpuType, features: u64) -> String {
    let arguments = SnpMeasurementArgs {
        vcpus,
        vcpu_type: model,
        ovmf_file: files.path("firmware"),
        guest_features: SevFeatures::from_bytes(&features.to_le_bytes()).expect("features"),
        kernel_file: append.map(|_| files.path("kernel")),
        initrd_file: append.map(|_| files.path("initrd")),
        append,
        ovmf_hash_str: None,
        vmm_type: Some(VMMType::QEMU),
    };
    snp_calc_launch_digest(arguments).expect("a digest").get_hex_ld()
}

/// Sections below any image, at most one page of hashes.
fn any_sections() -> impl Strategy<Value = Vec<[u32; 3]>> {
    let memory = (0_u32..0xF_0000, 1_u32..20, prop_oneof![Just(SEC_MEMORY), Just(SVSM_CAA)]);
    let page = (0_u32..0xF_0000, Just(1_u32), prop_oneof![Just(SECRETS), Just(CPUID)]);
    let sections = prop::collection::vec(prop_oneof![memory, page], 0..8);
    (sections, any::<prop::sample::Index>()).prop_map(|(sections, place)| {
        let in_bytes = |(page, count, kind)| [page << 12, count << 12, kind];
        let mut sections: Vec<[u32; 3]> = sections.into_iter().map(in_bytes).collect();
        sections.insert(place.index(sections.len() + 1), [0x81_0000, 0x1000, KERNEL_HASHES]);
        sections
    })
}

prop_compose! {
    fn any_image()(
        sections in any_sections(),
        pages in 1_usize..5,
        filling in any::<u8>(),
        offset in 0_u32..=4096 - 176,
        reset in 1_u32..,
    ) -> Image {
        let mut image = Image::new(sections);
        image.entries[0].1 = [(0x81_0000 + offset).to_le_bytes(), 176_u32.to_le_bytes()].concat();
        image.entries[1].1 = reset.to_le_bytes().to_vec();
        Image { pages, filling, ..image }
    }
}

/// The models that crate `sev` knows too.
fn any_model() -> impl Strategy<Value = (CpuModel, CpuType)> {
    let known = CpuModel::all()
        .filter_map(|model| Some((model, CpuType::try_from(model.to_string().as_str()).ok()?)));
    prop::sample::select(known.collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn crate_sev_agrees(
        image in any_image(),
        (model, sev_model) in any_model(),
        vcpus in 1_u32..6,
        features in any::<u64>().prop_map(|bits| bits | 1),
        kernel in prop::collection::vec(any::<u8>(), 1..9000),
        initrd in prop::collection::vec(any::<u8>(), 0..9000),
        append in prop::option::of("([!-~]([ -~]{0,40}[!-~])?)?"),
    ) {
        let bytes = image.bytes();
        let hashes = append.as_deref().map(|line| KernelHashes::new(&kernel, &initrd, line).unwrap());
        let launch = Launch::new(&Firmware::parse(bytes.clone()).unwrap(), hashes.as_ref()).unwrap();
        let ours = launch.digest(vcpus, model, GuestFeatures(features)).unwrap();
        let files = Files::new(&bytes, &kernel, &initrd);
        prop_assert_eq!(hex::encode(ours.0), sev_digest(&files, append.as_deref(), vcpus, sev_model, features));
    }

    /// Whatever we accept, crate `sev` reads alike; whatever we refuse, we refuse without a panic.
    #[test]
    fn altered_firmware_is_refused_or_read_alike(
        image in any_image(),
        changes in prop::collection::vec((0_usize..300, any::<u8>()), 1..5),
    ) {
        let mut bytes = image.bytes();
        for (from_end, value) in changes {
            let place = bytes.len() - 1 - from_end;
            bytes[place] = value;
        }
        let kernel = KernelHashes::new(b"kernel", b"", "").unwrap();
        let Ok(firmware) = Firmware::parse(bytes.clone()) else { return Ok(()) };
        let Ok(launch) = Launch::new(&firmware, Some(&kernel)) else { return Ok(()) };
        let ours = launch.digest(2, cpu("EPYC-v4"), SNP_ACTIVE).unwrap();
        let files = Files::new(&bytes, b"kernel", b"");
        prop_assert_eq!(hex::encode(ours.0), sev_digest(&files, Some(""), 2, CpuType::EpycV4, 1));
    }

    #[test]
    fn random_bytes_are_refused(tail in prop::collection::vec(any::<u8>(), 0..PAGE), with_footer in any::<bool>()) {
        let mut bytes = vec![0; 2 * PAGE - tail.len()];
        bytes.extend(tail);
        if with_footer {
            let end = bytes.len() - 32;
            bytes[end - 16..end].copy_from_slice(&guid_bytes(FOOTER));
        }
        prop_assert!(Firmware::parse(bytes).is_err());
    }
}

/// Against the Python tool, which shares no code with crate `sev`.
#[test]
#[ignore = "needs sev-snp-measure from PyPI; run by the slow suites"]
fn sev_snp_measure_agrees() {
    let (kernel, initrd) = (vec![0x5A; 70_001], b"an initrd".to_vec());
    // With or without a kernel, an initrd, a command line.
    let boots: [(bool, bool, Option<&str>); 6] = [
        (false, false, None),
        (true, false, None),
        (true, true, None),
        (true, false, Some("console=ttyS0 quiet")),
        (true, true, Some("console=ttyS0")),
        (true, true, Some("")),
    ];
    let models =
        ["EPYC", "EPYC-v4", "EPYC-IBPB", "EPYC-Rome-v3", "EPYC-Milan-v2", "EPYC-Genoa", "EPYC-Turin"];
    let mut compared = 0;
    for (image, boots) in [(amd_sev(), &boots[..]), (ovmf_x64(), &boots[..1])] {
        let files = Files::new(&image, &kernel, &initrd);
        let path = |name| files.path(name).into_os_string().into_string().expect("text");
        let (firmware, kernel_path, initrd_path) = (path("firmware"), path("kernel"), path("initrd"));
        for &(with_kernel, with_initrd, append) in boots {
            let initrd = if with_initrd { &initrd[..] } else { &[] };
            let hashes = with_kernel
                .then(|| KernelHashes::new(&kernel, initrd, append.unwrap_or_default()).expect("a kernel"));
            let launch = Launch::new(&Firmware::parse(image.clone()).unwrap(), hashes.as_ref()).unwrap();
            for (index, model) in models.into_iter().enumerate() {
                let vcpus = [1, 2, 3, 16][index % 4];
                let features = [0x1, 0x21, 0x201, 0x8001][(index + compared) % 4];
                let ours = hex::encode(launch.digest(vcpus, cpu(model), GuestFeatures(features)).unwrap().0);
                let (vcpus, features) = (vcpus.to_string(), format!("{features:#x}"));
                let mut arguments = vec!["--mode", "snp", "--vmm-type", "QEMU", "--ovmf", &firmware];
                arguments.extend(["--vcpus", &vcpus, "--vcpu-type", model, "--guest-features", &features]);
                if with_kernel {
                    arguments.extend(["--kernel", &kernel_path]);
                }
                if with_initrd {
                    arguments.extend(["--initrd", &initrd_path]);
                }
                arguments.extend(append.into_iter().flat_map(|line| ["--append", line]));
                let theirs = independent::run("sev-snp-measure", &arguments).expect("a digest");
                assert_eq!(ours, theirs, "{arguments:?}");
                compared += 1;
            }
        }
    }
    println!("{compared} launches: sev-snp-measure agrees");
    assert_eq!(compared, 49);

    // Both refuse a kernel where nothing would check it.
    let files = Files::new(&ovmf_x64(), &kernel, &[]);
    let path = |name| files.path(name).into_os_string().into_string().expect("text");
    let (firmware, kernel) = (path("firmware"), path("kernel"));
    let arguments =
        ["--mode", "snp", "--vcpus", "1", "--vcpu-type", "EPYC", "--ovmf", &firmware, "--kernel", &kernel];
    let complaint = independent::run("sev-snp-measure", &arguments).expect_err("a refusal");
    assert!(complaint.contains("SNP_KERNEL_HASHES"), "{complaint}");
}
