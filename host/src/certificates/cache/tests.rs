use super::super::vectors::{facts, tcb, vector, when_lists_were_good};
use super::*;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const GENOA: Product = Product::Genoa;
const VCEK: EndorsementKey = EndorsementKey::Vcek;

fn cache() -> (TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("certificates"));
    (folder, cache)
}

fn genoa() -> VcekId {
    let facts = facts("msft-tav-genoa");
    VcekId::new(facts.product, &facts.chip_id, facts.reported_tcb).unwrap()
}

#[test]
fn what_is_kept_is_found_again_under_its_own_name_only() {
    let (_folder, cache) = cache();
    assert_eq!((cache.vcek(&genoa()), cache.issuer(GENOA, VCEK)), (None, None));
    let (leaf, ask) = (vector("msft-tav-genoa-vcek.der"), vector("amd-genoa-ask.der"));
    cache.keep_vcek(&genoa(), &leaf);
    cache.keep_issuer(GENOA, VCEK, &ask);
    assert_eq!((cache.vcek(&genoa()), cache.issuer(GENOA, VCEK)), (Some(leaf), Some(ask)));

    let chip = facts("msft-tav-genoa").chip_id;
    let newer = VcekId::new(GENOA, &chip, tcb(None, [10, 0, 23, 86])).unwrap();
    let milan = VcekId::new(Product::Milan, &chip, tcb(None, [10, 0, 23, 84])).unwrap();
    assert_eq!((cache.vcek(&newer), cache.vcek(&milan)), (None, None));
    assert_eq!((cache.issuer(GENOA, EndorsementKey::Vlek), cache.issuer(Product::Milan, VCEK)), (None, None));
}

#[test]
fn levels_that_differ_in_the_fmc_alone_are_kept_apart() {
    let (_folder, cache) = cache();
    let chip = facts("msft-tav-turin").chip_id;
    let turin = |fmc| VcekId::new(Product::Turin, &chip, tcb(Some(fmc), [1, 1, 4, 81])).unwrap();
    cache.keep_vcek(&turin(1), &vector("msft-tav-turin-vcek.der"));
    assert!(cache.vcek(&turin(1)).is_some());
    assert_eq!(cache.vcek(&turin(2)), None);
}

#[test]
fn damaged_files_count_as_absent_and_are_replaced() {
    let (_folder, cache) = cache();
    let leaf = vector("msft-tav-genoa-vcek.der");
    let path = cache.vcek_file(&genoa());
    cache.keep_vcek(&genoa(), &leaf);
    for damaged in [&b""[..], &leaf[..leaf.len() / 2], b"garbage", &[0x30; 1 << 20]] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(cache.vcek(&genoa()), None);
    }
    cache.keep_vcek(&genoa(), &leaf);
    assert_eq!(cache.vcek(&genoa()), Some(leaf));
}

#[test]
fn a_list_is_fresh_for_a_day_and_good_until_the_next_is_due() {
    let (_folder, cache) = cache();
    let crl = vector("amd-genoa-crl-2022.der");
    cache.keep_crl(GENOA, VCEK, &crl);
    let sent = when_lists_were_good();
    let file = File::options().write(true).open(cache.crl_file(GENOA, VCEK)).unwrap();
    file.set_modified(sent).unwrap();
    let after = |time| cache.crl(GENOA, VCEK, sent + time).map(|kept| kept.is_fresh);
    let hour = Duration::from_secs(3600);
    assert_eq!(after(Duration::ZERO), Some(true));
    assert_eq!(after(23 * hour), Some(true));
    assert_eq!(after(25 * hour), Some(false));
    assert_eq!(after(300 * 24 * hour), Some(false), "still a fallback");
    assert_eq!(after(365 * 24 * hour), None, "out of date since October 2023");

    // A clock that went back: nobody knows how old it is.
    assert_eq!(cache.crl(GENOA, VCEK, sent - hour).map(|kept| kept.is_fresh), Some(false));
    std::fs::write(cache.crl_file(GENOA, VCEK), &crl[..100]).unwrap();
    assert!(cache.crl(GENOA, VCEK, sent).is_none());
}

#[test]
fn nobody_else_may_write_and_nothing_is_left_over() {
    let (folder, cache) = cache();
    cache.keep_issuer(GENOA, VCEK, &vector("amd-genoa-ask.der"));
    cache.keep_issuer(GENOA, VCEK, &vector("amd-genoa-ask.der"));
    let line = folder.path().join("certificates/Genoa");
    for path in [folder.path().join("certificates"), line.clone(), line.join("ask.der")] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{}: {mode:o}", path.display());
    }
    assert_eq!(std::fs::read_dir(line).unwrap().count(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let cache = Cache::new(file.clone());
    cache.keep_issuer(GENOA, VCEK, &vector("amd-genoa-ask.der"));
    assert_eq!(cache.issuer(GENOA, VCEK), None);
    assert_eq!(std::fs::read(file).unwrap(), b"not a folder");
}

#[test]
fn writers_at_once_leave_one_whole_file() {
    let (_folder, cache) = cache();
    let versions = [vector("amd-genoa-ask.der"), vector("amd-genoa-ask-revoked.der")];
    std::thread::scope(|scope| {
        for version in &versions {
            scope.spawn(|| (0..50).for_each(|_| cache.keep_issuer(GENOA, VCEK, version)));
        }
        for _ in 0..200 {
            if let Some(found) = cache.issuer(GENOA, VCEK) {
                assert!(versions.contains(&found));
            }
        }
    });
    assert!(cache.issuer(GENOA, VCEK).is_some_and(|found| versions.contains(&found)));
}
