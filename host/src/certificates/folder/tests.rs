use super::super::vectors::{ark, made_up_vlek, set, vector};
use super::*;
use postern_shared::snp::Product;
use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn pem(der: &[u8]) -> Vec<u8> {
    to_pem(CERTIFICATE, der).into_bytes()
}

/// The error's text, without the folder's path.
#[track_caller]
fn refusal(folder: &TempDir) -> String {
    let text = read(folder.path()).unwrap_err().to_string();
    text.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn every_real_set_is_read_in_either_form() {
    for name in ["dstack-milan", "msft-tav-milan", "msft-tav-genoa", "confai-siena", "msft-tav-turin"] {
        let set = set(name);
        let der = folder(&[("ark.der", &set.ark), ("ask.der", &set.ask), ("vcek.der", &set.leaf)]);
        assert_eq!(read(der.path()).unwrap(), set);
        let (ark, ask, leaf) = (pem(&set.ark), pem(&set.ask), pem(&set.leaf));
        let pem = folder(&[("ark.pem", &ark), ("ask.pem", &ask), ("vcek.pem", &leaf)]);
        assert_eq!(read(pem.path()).unwrap(), set);
    }
}

#[test]
fn the_content_decides_and_not_the_extension() {
    let set = set("msft-tav-turin");
    let folder = folder(&[("ark.pem", &set.ark), ("ask.der", &pem(&set.ask)), ("vcek.der", &set.leaf)]);
    assert_eq!(read(folder.path()).unwrap(), set);
}

#[test]
fn of_two_forms_pem_counts() {
    let (set, other) = (set("msft-tav-genoa"), set("confai-siena"));
    let folder = folder(&[("ask.der", &set.ask), ("vcek.der", &other.leaf), ("vcek.pem", &pem(&set.leaf))]);
    assert_eq!(read(folder.path()).unwrap(), set);
}

#[test]
fn a_chain_as_kds_sends_it_fills_in() {
    let set = set("msft-tav-genoa");
    let chain = vector("amd-genoa-vcek-ask-ark.pem");
    assert_eq!(read(folder(&[("cert_chain.pem", &chain), ("vcek.der", &set.leaf)]).path()).unwrap(), set);
    // What has a file of its own is taken from there.
    let other = vector("amd-genoa-ask-revoked.der");
    let both = folder(&[("cert_chain.pem", &chain), ("ask.der", &other), ("vcek.der", &set.leaf)]);
    assert_eq!(read(both.path()).unwrap(), Certificates { ask: other, ..set });
}

#[test]
fn a_chain_in_the_wrong_order_says_so() {
    let set = set("msft-tav-genoa");
    let turned = [pem(&set.ark), pem(&set.ask)].concat();
    let expected = |path: &str| {
        format!(
            "{path}: certificates in the wrong order: expected the issuer of the leaf (ASK or ASVK), then its root (ARK); \
             found `ARK-Genoa`, then `SEV-Genoa`"
        )
    };
    let chain = folder(&[("cert_chain.pem", &turned), ("vcek.der", &set.leaf)]);
    assert_eq!(refusal(&chain), expected(&chain.path().display().to_string()));
    let swapped = folder(&[("ask.der", &set.ark), ("ark.der", &set.ask), ("vcek.der", &set.leaf)]);
    assert_eq!(refusal(&swapped), expected(&swapped.path().display().to_string()));
}

#[test]
fn a_missing_ark_is_filled_in_by_the_issuers_word() {
    for name in ["dstack-milan", "msft-tav-genoa", "msft-tav-turin"] {
        let set = set(name);
        let folder = folder(&[("ask.der", &set.ask), ("vcek.der", &set.leaf)]);
        assert_eq!(read(folder.path()).unwrap(), set);
    }
    // A leaf in the place of the ASK: its issuer is no root.
    let leaf = set("dstack-milan").leaf;
    let folder = folder(&[("ask.der", &leaf), ("vcek.der", &leaf)]);
    assert_eq!(
        refusal(&folder),
        "ark: neither .pem nor .der is there, and no root of AMD's is called `SEV-Milan`"
    );
}

#[test]
fn a_vlek_has_an_asvk_over_it() {
    let (vlek, asvk) = (made_up_vlek("amd-milan-asvk.der"), vector("amd-milan-asvk.der"));
    let provider = folder(&[("vlek.der", &vlek), ("asvk.der", &asvk)]);
    let expected =
        Certificates { ark: ark(Product::Milan), ask: asvk.clone(), leaf: vlek.clone(), crl: None };
    assert_eq!(read(provider.path()).unwrap(), expected);

    let both = folder(&[("vlek.der", &vlek), ("vcek.der", &vlek), ("asvk.der", &asvk)]);
    assert!(matches!(read(both.path()), Err(FolderError::TwoLeaves { .. })));
    let of_the_chips = folder(&[("vlek.der", &vlek), ("ask.der", &asvk)]);
    assert_eq!(refusal(&of_the_chips), "asvk: neither .pem nor .der is there");
}

#[test]
fn a_revocation_list_is_read_if_there_is_one() {
    let (set, crl) = (set("msft-tav-genoa"), vector("amd-genoa-crl-2022.der"));
    for list in [crl.clone(), to_pem(X509_CRL, &crl).into_bytes()] {
        let folder = folder(&[("ask.der", &set.ask), ("vcek.der", &set.leaf), ("crl.pem", &list)]);
        assert_eq!(read(folder.path()).unwrap(), Certificates { crl: Some(crl.clone()), ..set.clone() });
    }
    let garbage = folder(&[("ask.der", &set.ask), ("vcek.der", &set.leaf), ("crl.der", b"garbage")]);
    assert!(
        refusal(&garbage).starts_with("crl.der: not an X.509 revocation list: "),
        "{}",
        refusal(&garbage)
    );
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let set = set("msft-tav-genoa");
    assert_eq!(refusal(&folder(&[])), "vcek: neither .pem nor .der is there");
    assert_eq!(refusal(&folder(&[("vcek.der", &set.leaf)])), "ask: neither .pem nor .der is there");
    for (content, reason) in [
        (&b""[..], "vcek.pem: not an X.509 certificate: "),
        (b"garbage", "vcek.pem: not an X.509 certificate: "),
        (&set.leaf[..set.leaf.len() - 1], "vcek.pem: not an X.509 certificate: "),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "vcek.pem: damaged PEM: "),
        (&vector("amd-genoa-vcek-ask-ark.pem"), "vcek.pem: PEM with 2 sections `CERTIFICATE`, expected 1"),
        (&[0x30; 1 << 20], "vcek.pem: more than 16384 bytes"),
    ] {
        let refusal = refusal(&folder(&[("ask.der", &set.ask), ("vcek.pem", content)]));
        assert!(refusal.starts_with(reason), "{refusal}");
    }
    let nowhere = read(Path::new("/nonexistent/certificates")).unwrap_err().to_string();
    assert_eq!(nowhere, "/nonexistent/certificates/vcek: neither .pem nor .der is there");
    let folder = folder(&[]);
    std::fs::create_dir(folder.path().join("vcek.pem")).unwrap();
    assert!(matches!(read(folder.path()), Err(FolderError::Io { .. })));
}

#[test]
fn what_is_exported_reads_back() {
    let parent = folder(&[]);
    let report = vector("msft-tav-genoa-report.bin");
    let mut set = set("msft-tav-genoa");
    set.crl = Some(vector("amd-genoa-crl-2022.der"));
    let target = parent.path().join("evidence");
    export(&target, &report, &set).unwrap();
    assert_eq!(read(&target).unwrap(), set);
    assert_eq!(std::fs::read(target.join("report.bin")).unwrap(), report);
    let mut names: Vec<String> = std::fs::read_dir(&target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["ark.pem", "ask.pem", "crl.pem", "report.bin", "vcek.pem"]);
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn an_empty_folder_is_filled_and_a_vlek_gets_its_names() {
    let parent = folder(&[]);
    let set = Certificates {
        ark: ark(Product::Milan),
        ask: vector("amd-milan-asvk.der"),
        leaf: made_up_vlek("amd-milan-asvk.der"),
        crl: None,
    };
    let target = parent.path().join("empty");
    std::fs::create_dir(&target).unwrap();
    export(&target, b"report", &set).unwrap();
    assert_eq!(read(&target).unwrap(), set);
    assert!(target.join("vlek.pem").exists() && target.join("asvk.pem").exists());
}

#[test]
fn an_export_never_touches_what_is_there() {
    let parent = folder(&[("file", b"mine")]);
    let target = parent.path().join("full");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("vcek.pem"), "of another machine").unwrap();
    let set = set("msft-tav-turin");
    assert!(matches!(export(&target, b"report", &set), Err(FolderError::NotEmpty { .. })));
    assert!(matches!(export(&parent.path().join("file"), b"report", &set), Err(FolderError::Io { .. })));
    assert!(matches!(export(&parent.path().join("no/such"), b"report", &set), Err(FolderError::Io { .. })));
    assert_eq!(std::fs::read(target.join("vcek.pem")).unwrap(), b"of another machine");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 2, "nothing is left beside them");
}
