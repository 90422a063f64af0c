//! Everything that is wrong with a configuration, in one go.

use super::*;

/// What may stand in a URL and must never be shown.
const SECRETS: [&str; 3] = ["hunter2", "KEYKEY", "TOKEN"];

/// The lines of a configuration's faults, with `DIR` for its folder.
fn faults(folder: &TempDir) -> Vec<String> {
    let error = match read_from(folder) {
        Ok(_) => return Vec::new(),
        Err(error) => error,
    };
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(!SECRETS.iter().any(|secret| shown.contains(secret)), "{shown}");
    }
    let ConfigError::Faults(faults) = error else { panic!("{error}") };
    let place = folder.path().to_str().unwrap();
    faults.iter().map(|fault| fault.to_string().replace(place, "DIR")).collect()
}

/// The good configuration with some texts in the place of others.
fn edited(folder: &TempDir, edits: &[(&str, &str)]) {
    let text = edits.iter().fold(CONFIG.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    std::fs::write(folder.path().join("config.toml"), text).unwrap();
}

#[test]
fn every_fault_is_told_in_a_line_by_its_field() {
    const BEACON: &str = "[\"http://127.0.0.1:5052\"]";
    const EXECUTION: &str = "[\"http://127.0.0.1:8545\"]";
    let folder = folder();
    edited(&folder, &[]);
    assert_eq!(faults(&folder), [""; 0]);
    // What is written in the place of what, and the lines of the faults.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case] = &[
        // Who, and by which keys.
        (&[("member = 1", "member = 4")], &["`member`: the manifest has no member 4"]),
        (
            &[("member = 1", "member = 2"), ("2 = \"/ip4", "3 = \"/ip4")],
            &[
                "`host_key`: not the key that the manifest names for member 2",
                "`wallet_key`: not the key of 0x0808080808080808080808080808080808080808, the wallet that the manifest names for member 2",
            ],
        ),
        (
            &[("host.key", "nothing.key"), ("wallet.key", "manifest.toml")],
            &[
                "`host_key`: the file that it names: No such file or directory (os error 2)",
                "`wallet_key`: DIR/manifest.toml: character 1 is no hexadecimal digit",
            ],
        ),
        (&[("wallet_key = \"wallet.key\"\n", "")], &["`wallet_key`: either this or `[wallet]` is needed"]),
        (
            &[("[beacon]", "[wallet]\nurl = \"http://127.0.0.1:9000\"\naddress = \"0x01\"\n[beacon]")],
            &["`wallet`: not both `wallet_key` and `[wallet]`"],
        ),
        (
            &[
                ("wallet_key = \"wallet.key\"\n", ""),
                ("[beacon]", "[wallet]\nurl = \"ws://a\"\naddress = \"0x01\"\n[beacon]"),
            ],
            &[
                "`wallet.address`: line 16, column 11: invalid length 1, expected 20 bytes",
                "`wallet.url`: the remote signer's URL: a node's URL begins with http:// or https://",
            ],
        ),
        // Where.
        (
            &[("unix:enclave.sock", "tcp:1"), ("listen =", "successor = \"vsock:1\"\nlisten =")],
            &[
                "`enclave`: none of vsock:CID:PORT, unix:PATH, unix-connect:PATH:PORT",
                "`successor`: none of vsock:CID:PORT, unix:PATH, unix-connect:PATH:PORT",
            ],
        ),
        (
            &[("/ip4/127.0.0.1/tcp/0", "localhost")],
            &["`listen`: not a multiaddr, which is like /ip4/192.0.2.1/tcp/9000"],
        ),
        (
            &[("/ip4/127.0.0.1/tcp/0", "/dns4/localhost/tcp/1")],
            &["`listen`: hosts listen on TCP, as in /ip4/0.0.0.0/tcp/9000 or /ip6/::/tcp/9000"],
        ),
        // All peers.
        (
            &[(
                "2 = \"/ip4/127.0.0.1/tcp/9000\"",
                "2 = \"/ip4/127.0.0.1/udp/9000/quic-v1\"\n3 = 3\n7 = \"nowhere\"\n1 = \"/ip4/127.0.0.1/tcp/1\"\ntwo = \"/ip4/127.0.0.1/tcp/2\"\n02 = \"/ip4/127.0.0.1/tcp/2\"",
            )],
            &[
                "`peers.02`: not a member's number",
                "`peers.1`: that is this member itself",
                "`peers.2`: hosts are found by TCP, as in /dns4/host.example.org/tcp/9000 or /ip4/192.0.2.1/tcp/9000",
                "`peers.3`: line 13, column 5: invalid type: integer `…`, expected a string",
                "`peers.7`: the manifest has no member 7",
                "`peers.7`: not a multiaddr, which is like /ip4/192.0.2.1/tcp/9000",
                "`peers.two`: not a member's number",
            ],
        ),
        (&[("[peers]\n2 = \"/ip4/127.0.0.1/tcp/9000\"\n", "")], &["`peers`: missing"]),
        // All nodes.
        (
            &[(EXECUTION, "[]"), (BEACON, "[]")],
            &["`execution.urls`: at least one is needed", "`beacon.urls`: at least one is needed"],
        ),
        (
            &[
                (
                    EXECUTION,
                    "[\"http://a/KEYKEY\", \"wss://user:hunter2@b/KEYKEY\", \"http://a/KEYKEY\", \"http://c:99999\"]",
                ),
                (BEACON, "[\"http://a/KEYKEY/eth/v1/\", \"http://a\", \"http://a#TOKEN\"]"),
            ],
            &[
                "`execution.urls[1]`: a node's URL begins with http:// or https://",
                "`execution.urls[2]`: http://a is listed twice",
                "`execution.urls[3]`: not a URL: invalid port number",
                "`beacon.urls[0]`: must end before `/eth/v1`, which every request adds",
                "`beacon.urls[2]`: http://a: the part after `#` is never sent to a node",
            ],
        ),
        (
            &[("[execution]\nurls = ", "[execution]\nurl = ")],
            &["`execution.urls`: missing", "`execution.url`: unknown"],
        ),
        // All numbers.
        (
            &[(
                "tick_ms = 250",
                "tick_ms = 0\npoll_ms = -1\nturn_s = 2592001\npatience_s = \"1\"\nreattest_s = 1",
            )],
            &[
                "`poll_ms`: line 9, column 11: invalid value: integer `…`, expected u64",
                "`tick_ms`: must be from 1 to 2592000000",
                "`patience_s`: line 11, column 14: invalid type: string \"…\", expected u64",
                "`turn_s`: must be from 1 to 2592000",
            ],
        ),
        (
            &[("[beacon]", "[fees]\nmax_fee_gwei = \"much\"\nraise_after_blocks = 0\n[beacon]")],
            &[
                "`fees.max_fee_gwei`: not a decimal number with at most 9 digits after the point",
                "`fees.raise_after_blocks`: must be from 1 to 18446744073709551615",
            ],
        ),
        // All files.
        (
            &[(
                "folder = \"certificates\"",
                "folder = \"nowhere\"\ntable = \"table.bin\"\nkds = \"kds.example\"\n[postgres]\nurl = \"http://a\"\nschema = \"a b\"\npassword = \"p\"\nca = \"host.key\"",
            )],
            &[
                "`certificates.folder`: DIR/nowhere/vcek: neither .pem nor .der is there",
                "`certificates.table`: DIR/table.bin: No such file or directory (os error 2)",
                "`certificates.kds`: no address of a key distribution service: relative URL without a base",
                "`postgres.url`: not a URL of PostgreSQL, or one with an option that is not known",
                "`postgres.schema`: not a schema's name: 1 to 63 of a-z, 0-9 and _ wanted",
                "`postgres.password`: the file that it names: No such file or directory (os error 2)",
                "`postgres.ca`: no certificate of an authority in it",
            ],
        ),
        // What nobody reads, and what is not there.
        (
            &[
                ("tick_ms = 250", "tock_ms = 250"),
                ("[certificates]", "[certificates]\nfile = \"x\""),
                ("listen = \"/ip4/127.0.0.1/tcp/0\"\n", ""),
                ("[beacon]\n", "[beacon]\n\"hunter2@\" = 1\n"),
            ],
            &[
                "`certificates.file`: unknown",
                "`listen`: missing",
                "`beacon.…`: unknown",
                "`tock_ms`: unknown",
            ],
        ),
        (
            &[
                ("[certificates]\nfolder = \"certificates\"\n", ""),
                ("tick_ms = 250", "certificates = 1\nfees = []"),
            ],
            &["`certificates`: line 8, column 16: not a table", "`fees`: line 9, column 8: not a table"],
        ),
    ];
    for (edits, expected) in cases {
        edited(&folder, edits);
        let expected: Vec<String> = expected.iter().map(|line| format!("config field {line}")).collect();
        assert_eq!(faults(&folder), expected, "{edits:?}");
    }
}

/// Of what can't be read nothing follows: no key is another's if nobody knows whose it should be.
#[test]
fn what_depends_on_something_wrong_is_no_fault_of_its_own() {
    let folder = folder();
    edited(&folder, &[("manifest.toml", "nothing.toml"), ("member = 1", "member = 3")]);
    assert_eq!(
        faults(&folder),
        ["config field `manifest`: DIR/nothing.toml: No such file or directory (os error 2)"]
    );
    // What does not depend on it is looked at all the same.
    edited(&folder, &[("manifest.toml", "nothing.toml"), ("tcp/9000", "tcp/0"), ("host.key", "config.toml")]);
    let expected = ["manifest", "host_key", "peers.2"].map(|name| format!("config field `{name}`: "));
    let found = faults(&folder);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(&expected).all(|(line, begin)| line.starts_with(begin)), "{found:?}");
    // Epochs that can't be read say nothing of the member either.
    edited(&folder, &[("data_dir = \"data\"", "data_dir = \"host.key\""), ("member = 1", "member = 9")]);
    let [fault] = &faults(&folder)[..] else { panic!("{:?}", faults(&folder)) };
    assert!(fault.starts_with("config field `data_dir`: DIR/host.key/epochs: "), "{fault}");
}

#[test]
fn eight_faults_at_once_are_all_named_and_nothing_secret_is() {
    let folder = folder();
    let url = "https://user:hunter2@node.example/KEYKEY?token=TOKEN";
    let quoted = format!("\"{url}\"");
    let doubled = "\"https://user:hunter2@node.example/KEYKEY/eth/v1?TOKEN\"";
    edited(
        &folder,
        &[
            ("\"manifest.toml\"", &quoted),
            ("\"unix:enclave.sock\"", &quoted),
            ("\"host.key\"", &quoted),
            ("\"/ip4/127.0.0.1/tcp/0\"", &quoted),
            ("tick_ms = 250", &format!("tick_ms = {quoted}")),
            ("\"/ip4/127.0.0.1/tcp/9000\"", &quoted),
            ("\"http://127.0.0.1:8545\"", "\"wss://user:hunter2@node.example/KEYKEY?token=TOKEN\""),
            ("\"http://127.0.0.1:5052\"", doubled),
        ],
    );
    let fields: Vec<String> =
        faults(&folder).iter().map(|line| line.split('`').nth(1).unwrap().to_owned()).collect();
    let expected = [
        "manifest",
        "host_key",
        "enclave",
        "listen",
        "peers.2",
        "execution.urls[0]",
        "beacon.urls[0]",
        "tick_ms",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn a_secret_in_the_place_of_its_file_is_not_shown() {
    let folder = folder();
    let key = format!("\"{}\"", "hunter2".repeat(9));
    let postgres = |password: &str| {
        format!("[postgres]\nurl = \"postgres://a@localhost/a\"\npassword = {password}\n[beacon]")
    };
    edited(
        &folder,
        &[("\"host.key\"", &key), ("\"wallet.key\"", &key), ("[beacon]", &postgres("\"hunter2\""))],
    );
    let absent = "the file that it names: No such file or directory (os error 2)";
    let expected = ["host_key", "wallet_key", "postgres.password"]
        .map(|field| format!("config field `{field}`: {absent}"));
    assert_eq!(faults(&folder), expected);
    edited(&folder, &[("[beacon]", &postgres("123456"))]);
    let [fault] = &faults(&folder)[..] else { panic!("{:?}", faults(&folder)) };
    assert!(fault.ends_with("invalid type: integer `…`, expected a string"), "{fault}");
    // Somebody's key where the manifest is meant.
    edited(&folder, &[("\"manifest.toml\"", "\"host.key\"")]);
    let [fault] = &faults(&folder)[..] else { panic!("{:?}", faults(&folder)) };
    assert!(fault.starts_with("config field `manifest`: DIR/host.key: manifest: line 1, "), "{fault}");
    assert!(!fault.contains(&hex::encode(HOST_SEED)), "{fault}");
}

#[test]
fn a_file_that_is_not_toml_is_told_by_its_place_without_a_word_of_it() {
    let folder = folder();
    let path = folder.path().join("config.toml");
    for (from, to) in
        [("member = 1", "member = hunter2"), ("\"http://127.0.0.1:5052\"", "\"http://u:hunter2@a")]
    {
        edited(&folder, &[(from, to)]);
        let error = read_from(&folder).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: line ", path.display())), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
