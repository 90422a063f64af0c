//! The checks themselves. Each says what it wanted and what it found, also when it holds.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Display;

use postern_shared::{
    check::Check,
    policy::{AttestationRules, Floor, GuestPolicyRules, PlatformRules, Revocation, Rule},
    snp::{Product, RawTcb, TcbVersion},
};

use crate::{
    anchor::TrustAnchor,
    chain::{Chain, Leaf},
    crl::List,
    endorsement::Holder,
    error::{Hex, ReportError},
    finding::Finding,
    floors::Requirements,
    report::{ECDSA_P384_SHA384, GuestPolicy, LATEST_VERSION, SigningKey, UnverifiedReport},
    shortfall::{BitNumbers, Shortfall},
    signature::p384_verifies,
    verifier::{Launch, Origin},
};

/// What is judged, and by what. The leaf is what the certificates say, proved or not.
pub(crate) struct Subject<'a> {
    pub(crate) report: &'a UnverifiedReport,
    pub(crate) product: Option<Product>,
    pub(crate) leaf: Option<&'a Leaf>,
    pub(crate) rules: &'a AttestationRules,
    /// What the silicon must reach, if it is known.
    pub(crate) required: Option<Requirements>,
    /// What of that it does not.
    pub(crate) shortfalls: &'a [Shortfall],
}

impl Subject<'_> {
    /// All that a check finds too low, in words; none if nothing is.
    fn too_low(&self, check: Check) -> Option<String> {
        let of_check = self.shortfalls.iter().filter(|low| low.check == check);
        let said: Vec<String> = of_check.map(ToString::to_string).collect();
        (!said.is_empty()).then(|| format!("too low: {}", said.join("; ")))
    }
}

/// Findings, as they are made.
#[derive(Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn add(&mut self, check: Check, ok: bool, expected: impl Display, found: impl Display) {
        self.0.push(Finding { check, ok, expected: expected.to_string(), found: found.to_string() });
    }

    pub(crate) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.check);
        self.0
    }

    /// The certificates by themselves.
    pub(crate) fn certificates(&mut self, chain: &Chain, anchor: &TrustAnchor, rules: &AttestationRules) {
        let expected = format!("good certificates from a root of {} to the leaf", anchor.name());
        self.add(Check::Chain, chain.proof.is_ok(), expected, said(&chain.proof, "all good"));
        self.add(
            Check::Validity,
            chain.validity.is_ok(),
            "certificates in their validity period",
            said(&chain.validity, "all valid"),
        );
        let expected = match rules.revocation {
            Revocation::WhenSupplied => "no list, or one of the root's in force",
            Revocation::Required => "a list of the root's in force",
        };
        let named = match &chain.revocation {
            None => {
                self.add(Check::Crl, rules.revocation == Revocation::WhenSupplied, expected, "no list");
                None
            }
            Some(Err(error)) => {
                self.add(Check::Crl, false, expected, error);
                None
            }
            Some(Ok(List { period, revoked })) => {
                self.add(Check::Crl, true, expected, format_args!("a list in force {period}"));
                *revoked
            }
        };
        let Some(known) = chain.known_revoked else { return };
        let found = match named {
            Some(role) => format!("the {role} is revoked"),
            None if known => "the ASK is known to be revoked".to_owned(),
            None => "none".to_owned(),
        };
        let good = named.is_none() && !known;
        self.add(Check::Revocation, good, "no certificate revoked by a list, or known to be", found);
    }

    /// Whether it is a report whose every bit is known; of one's own processor, also a later one.
    pub(crate) fn format(&mut self, report: &Result<UnverifiedReport, ReportError>, origin: Origin) {
        let expected = match origin {
            Origin::Own => "a report of version 2 or later".to_owned(),
            Origin::Anybody => format!("a report of version 2 to {LATEST_VERSION}"),
        };
        let ok = report.as_ref().is_ok_and(|report| origin == Origin::Own || report.is_known());
        let found = match report {
            Ok(report) if ok => format!("version {}", report.version),
            Ok(report) => {
                format!(
                    "version {}: code that knows it must come before firmware that reports it",
                    report.version
                )
            }
            Err(error) => error.to_string(),
        };
        self.add(Check::ReportFormat, ok, expected, found);
    }

    /// Who signed, over what.
    pub(crate) fn signature(&mut self, subject: &Subject<'_>) {
        let Subject { report, leaf, rules, .. } = subject;
        let found = report.signature_algorithm;
        self.add(Check::SignatureAlgorithm, found == ECDSA_P384_SHA384, ECDSA_P384_SHA384, found);
        // Bits that a later version has given a meaning are not reserved any more; which, is not known here.
        if report.is_known() {
            let found = report.reserved.map_or("zeros".to_owned(), |offset| format!("others at {offset:#x}"));
            self.add(Check::Reserved, report.reserved.is_none(), "zeros", found);
        }

        let holder = leaf.map(|leaf| &leaf.endorsement.holder);
        let lent = match holder {
            Some(Holder::Provider(provider)) => rules.relax.vlek_providers.contains(provider),
            _ => false,
        };
        let (flags, certified) = (report.key_flags, holder.map(Holder::key));
        let accepted = flags.signing_key() == SigningKey::Vcek || lent;
        let ok = accepted && certified == Some(flags.signing_key()) && !flags.mask_chip_key();
        let providers = &rules.relax.vlek_providers;
        let expected = if providers.is_empty() {
            "VCEK, certified as such, not masked".to_owned()
        } else {
            format!("VCEK, or VLEK of {providers:?}, certified as such, not masked")
        };
        let mask = if flags.mask_chip_key() { ", masked" } else { "" };
        let certified = match holder {
            None => "nothing readable".to_owned(),
            Some(Holder::Chip(_)) => "a VCEK".to_owned(),
            Some(Holder::Provider(provider)) => format!("a VLEK of {provider:?}"),
        };
        let found = format_args!("{} under {certified}{mask}", flags.signing_key());
        self.add(Check::SigningKey, ok, expected, found);

        let ok = leaf.is_some_and(|leaf| {
            p384_verifies(&leaf.key, &report.signed_digest, &report.signature_r, &report.signature_s)
        });
        let found = if ok { "valid" } else { "not valid" };
        self.add(Check::ReportSignature, ok, "valid under the leaf's key over the bytes received", found);
    }

    /// Silicon, firmware and microcode.
    pub(crate) fn platform(&mut self, subject: &Subject<'_>) {
        let Subject { report, product, leaf, rules, required, .. } = subject;
        let certified = leaf.map(|leaf| leaf.endorsement.product);
        let silicon = report.cpuid.and_then(|cpuid| cpuid.product());
        let ok = silicon.is_some_and(|product| rules.products.contains(&product)) && silicon == certified;
        let found = match (report.cpuid, silicon) {
            (None, _) => format!("no CPUID (report version {})", report.version),
            (Some(cpuid), None) => match cpuid.unsupported_line() {
                Some(line) => format!("{line} ({cpuid}), which is not supported"),
                None => format!("unknown silicon {cpuid}"),
            },
            (Some(cpuid), Some(product)) => format!("{product} ({cpuid})"),
        };
        let certified = certified.map_or("nothing readable".to_owned(), |product| product.to_string());
        self.add(
            Check::Product,
            ok,
            format_args!("silicon of {}, certified as such", listed(&rules.products)),
            format_args!("{found}, certified for {certified}"),
        );

        let tcbs = product.and_then(|product| Tcbs::read(report, product));
        self.tcb(subject, tcbs.as_ref());

        let (current, committed) = (report.current_firmware, report.committed_firmware);
        let same = current == committed && report.current_tcb == report.committed_tcb;
        self.add(
            Check::FirmwareCommitted,
            same || rules.relax.provisional_firmware,
            if rules.relax.provisional_firmware { "any" } else { "what is committed is what runs" },
            format_args!(
                "firmware {committed}, TCB {} committed; firmware {current}, TCB {} running",
                report.committed_tcb, report.current_tcb
            ),
        );
        self.mitigations(subject);

        let platform = &rules.platform;
        let alias_check = if rules.relax.missing_alias_check { Rule::Any } else { Rule::Required };
        let mut bits = Bits::new(report.platform_info);
        for (bit, name, rule) in platform_bits(platform, alias_check) {
            bits.hold(bit, name, rule);
            let wanted =
                required.is_some_and(|required| required.platform.checked_shr(bit).is_some_and(is_odd));
            if wanted && rule != Rule::Required {
                bits.hold(bit, name, Rule::Required);
            }
        }
        let unknown = report.platform_info & !Floor::PLATFORM_BITS & !rules.relax.unknown_platform_bits;
        if unknown != 0 && report.is_known() {
            bits.wrong.push(format!("unknown bits {unknown:#x}"));
        }
        bits.demands.push("no unknown bit".to_owned());
        let found = bits.found(format_args!("{:#x}", report.platform_info));
        self.add(Check::PlatformInfo, bits.wrong.is_empty(), bits.demands.join(", "), found);
    }

    fn tcb(&mut self, subject: &Subject<'_>, tcbs: Option<&Tcbs>) {
        let Subject { report, leaf, required, .. } = subject;
        let certified = leaf.map(|leaf| leaf.endorsement.tcb);
        let unreadable = || "reserved bytes in a TCB, or an unknown product line".to_owned();
        self.add(
            Check::LeafTcb,
            certified.is_some() && certified == tcbs.map(|tcbs| tcbs.reported),
            certified.map_or("a readable leaf".to_owned(), |tcb| format!("{tcb}, as the leaf")),
            tcbs.map_or_else(unreadable, |tcbs| format!("{} reported", tcbs.reported)),
        );
        self.add(
            Check::TcbOrder,
            tcbs.is_some_and(|tcbs| tcbs.current.reaches(&tcbs.reported)),
            "no TCB reported above the current one",
            tcbs.map_or_else(unreadable, |tcbs| {
                format!("{} reported, {} current", tcbs.reported, tcbs.current)
            }),
        );
        let silicon = report.cpuid.map_or("unknown silicon".to_owned(), |cpuid| cpuid.to_string());
        let expected = match required {
            Some(required) => format!("at least {} on {silicon}", required.tcb),
            None => format!("silicon with a floor, not {silicon}"),
        };
        let low = subject.too_low(Check::TcbFloor);
        let reached = required.is_some() && tcbs.is_some() && low.is_none();
        let found = |tcbs: &Tcbs| {
            let Tcbs { reported, launch, committed, .. } = tcbs;
            format!("{reported} reported, {launch} at launch, {committed} committed{}", after(low))
        };
        self.add(Check::TcbFloor, reached, expected, tcbs.map_or_else(unreadable, found));

        let (current, committed) = (report.current_firmware, report.committed_firmware);
        let least = required.and_then(|required| required.firmware);
        let low = subject.too_low(Check::FirmwareVersion);
        self.add(
            Check::FirmwareVersion,
            low.is_none(),
            least.map_or("any".to_owned(), |least| format!("at least {least}")),
            format_args!("{current}, {committed} committed"),
        );
    }

    fn mitigations(&mut self, subject: &Subject<'_>) {
        let Subject { report, required, .. } = subject;
        let wanted = required.map_or(0, |required| required.mitigations);
        let show = |vector: Option<u64>| vector.map_or("none".to_owned(), |vector| format!("{vector:#x}"));
        let (launch, current) = (report.launch_mitigations, report.current_mitigations);
        let low = subject.too_low(Check::Mitigations);
        self.add(
            Check::Mitigations,
            low.is_none(),
            if wanted == 0 { "any".to_owned() } else { BitNumbers(wanted).to_string() },
            format_args!("{} at launch, {} now{}", show(launch), show(current), after(low)),
        );
    }

    /// How the guest was launched, as far as it needs no manifest.
    pub(crate) fn guest(&mut self, subject: &Subject<'_>) {
        let Subject { report, rules, .. } = subject;
        let asked =
            if report.vmpl == u32::MAX { "the host's request".to_owned() } else { report.vmpl.to_string() };
        self.add(Check::Vmpl, report.vmpl == 0, 0, asked);

        let mut bits = Bits::new(report.policy.0);
        policy_bits(&rules.guest_policy).into_iter().for_each(|(bit, name, rule)| bits.hold(bit, name, rule));
        let ((major, minor), least) = (report.policy.abi(), rules.guest_policy.abi);
        if (major, minor) < least {
            bits.wrong.push(format!("ABI {major}.{minor}"));
        }
        bits.demands.push(format!("ABI {}.{} or later", least.0, least.1));
        let found = bits.found(report.policy);
        self.add(Check::GuestPolicy, bits.wrong.is_empty(), bits.demands.join(", "), found);

        self.add(
            Check::MigrationAgent,
            report.report_id_ma == [0xFF; 32],
            "none",
            if report.report_id_ma == [0xFF; 32] {
                "none".to_owned()
            } else {
                Hex(report.report_id_ma).to_string()
            },
        );
        self.add(
            Check::GuestSvn,
            report.guest_svn >= rules.guest_svn,
            format_args!("at least {}", rules.guest_svn),
            report.guest_svn,
        );
    }

    /// Which chip, and whose.
    pub(crate) fn chip(&mut self, subject: &Subject<'_>, launch: Option<&Launch<'_>>) {
        let Subject { report, leaf, rules, .. } = subject;
        let masked = report.chip_id == [0; 64];
        let holder = leaf.map(|leaf| &leaf.endorsement.holder);
        let (fits, of_certificate) = match holder {
            None => (false, "that of a readable leaf".to_owned()),
            Some(Holder::Chip(id)) => (
                if masked { rules.relax.masked_chip_id } else { report.chip_id == *id },
                format!("{}, as the leaf", Hex(*id)),
            ),
            // Whether the provider is accepted is another check's matter.
            Some(Holder::Provider(_)) => (true, "any of the provider's".to_owned()),
        };
        // Where the report hides the chip, the leaf still names it, if it is a chip's.
        let chip = match holder {
            Some(Holder::Chip(id)) if masked => Some(*id),
            _ => (!masked).then_some(report.chip_id),
        };
        let chips = launch.map_or(&[][..], |launch| launch.chip_ids);
        let own = match (launch, chips, holder) {
            (None, ..) => true,
            // Of a member without chips, just what a relaxation names: a lent key, or a chip that hides.
            (Some(_), [], Some(Holder::Provider(_))) => !rules.relax.vlek_providers.is_empty(),
            (Some(_), [], _) => masked && rules.relax.masked_chip_id,
            (Some(_), chips, _) => chip.is_some_and(|chip| chips.iter().any(|listed| listed.0 == chip)),
        };
        let of_member = match (launch, chips) {
            (None, _) => String::new(),
            (Some(_), []) => ", of a member that names no chip".to_owned(),
            (Some(_), chips) => format!(", of the member's {}", listed(chips)),
        };
        let found = if masked { "masked".to_owned() } else { Hex(report.chip_id).to_string() };
        self.add(Check::ChipId, fits && own, format_args!("{of_certificate}{of_member}"), found);
    }

    /// What only a manifest can answer.
    pub(crate) fn launch(&mut self, subject: &Subject<'_>, launch: &Launch<'_>) {
        let Subject { report, rules, .. } = subject;
        let allowed: Vec<_> = rules.measurements_at(launch.epoch).collect();
        let known = allowed.iter().find(|listed| listed.digest == report.measurement);
        let names: Vec<&str> = allowed.iter().map(|listed| listed.name.as_str()).collect();
        let found = match known {
            Some(listed) => format!("{} ({:?})", listed.digest, listed.name),
            None => report.measurement.to_string(),
        };
        let expected = format_args!("one of {names:?} in epoch {}", launch.epoch);
        self.add(Check::Measurement, known.is_some(), expected, found);

        let (expected, found) = (Hex(launch.host_data), Hex(report.host_data));
        self.add(Check::HostData, expected == found, expected, found);

        let (id, author) = (report.id_key_digest, report.author_key_digest);
        let listed = |keys: &[postern_shared::policy::KeyDigest], digest: [u8; 48]| {
            keys.iter().any(|key| key.0 == digest)
        };
        let id_ok = if rules.id_keys.is_empty() { id == [0; 48] } else { listed(&rules.id_keys, id) };
        let author_ok = if report.key_flags.author_key() {
            listed(&rules.author_keys, author)
        } else {
            author == [0; 48] && rules.author_keys.is_empty()
        };
        let expected = match (rules.id_keys.len(), rules.author_keys.len()) {
            (0, _) => "no ID block".to_owned(),
            (ids, 0) => format!("an ID block by one of {ids} keys, without author"),
            (ids, authors) => {
                format!("an ID block by one of {ids} keys, certified by one of {authors} authors")
            }
        };
        let found = match (id == [0; 48], report.key_flags.author_key()) {
            (true, false) => "none".to_owned(),
            (_, false) => format!("ID key {}", Hex(id)),
            (_, true) => format!("ID key {}, author key {}", Hex(id), Hex(author)),
        };
        self.add(Check::IdBlock, id_ok && author_ok, expected, found);
    }
}

/// What was found about the certificates, in words.
fn said<E: Display>(result: &Result<(), E>, good: &str) -> String {
    result.as_ref().map_or_else(E::to_string, |()| good.to_owned())
}

/// More to say, if there is more.
fn after(more: Option<String>) -> String {
    more.map_or_else(String::new, |more| format!("; {more}"))
}

fn is_odd(bits: u64) -> bool {
    bits & 1 == 1
}

fn listed(values: &[impl Display]) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    texts.join(" or ")
}

/// A report's four TCBs by the layout of its product line.
struct Tcbs {
    current: TcbVersion,
    committed: TcbVersion,
    launch: TcbVersion,
    reported: TcbVersion,
}

impl Tcbs {
    /// None if a reserved byte of one of them is set.
    fn read(report: &UnverifiedReport, product: Product) -> Option<Self> {
        let read = |raw: RawTcb| raw.decode(product);
        Some(Self {
            current: read(report.current_tcb)?,
            committed: read(report.committed_tcb)?,
            launch: read(report.launch_tcb)?,
            reported: read(report.reported_tcb)?,
        })
    }
}

fn platform_bits(rules: &PlatformRules, alias_check: Rule) -> [(u32, &'static str, Rule); 8] {
    [
        (0, "SMT", rules.smt),
        (1, "TSME", rules.tsme),
        (2, "ECC", rules.ecc),
        (3, "RAPL off", rules.rapl_disabled),
        (4, "ciphertext hiding", rules.ciphertext_hiding),
        // BadRAM (CVE-2024-21944, AMD-SB-3015): memory modules that lie about their size.
        (5, "memory alias check", alias_check),
        (6, "IOMMU write safe", rules.iommu_write_safe),
        (7, "trusted I/O", rules.tio),
    ]
}

fn policy_bits(rules: &GuestPolicyRules) -> [(u32, &'static str, Rule); 10] {
    let bit = |mask: u64| mask.trailing_zeros();
    [
        (bit(GuestPolicy::RESERVED_ONE), "bit 17", Rule::Required),
        (bit(GuestPolicy::DEBUG), "debugging", Rule::Forbidden),
        (bit(GuestPolicy::MIGRATE_MA), "migration agents", Rule::Forbidden),
        (bit(GuestPolicy::CXL), "CXL", Rule::Forbidden),
        (16, "SMT", rules.smt),
        (20, "single socket", rules.single_socket),
        (22, "AES-256-XTS", rules.mem_aes_256_xts),
        (23, "RAPL off", rules.rapl_dis),
        (24, "ciphertext hiding", rules.ciphertext_hiding),
        (25, "no page swapping", rules.page_swap_disable),
    ]
}

/// Bits held against rules.
struct Bits {
    value: u64,
    demands: Vec<String>,
    wrong: Vec<String>,
}

impl Bits {
    fn new(value: u64) -> Self {
        Self { value, demands: Vec::new(), wrong: Vec::new() }
    }

    fn hold(&mut self, bit: u32, name: &str, rule: Rule) {
        let set = self.value.checked_shr(bit).is_some_and(is_odd);
        let (demand, holds) = match rule {
            Rule::Any => return,
            Rule::Required => (name.to_owned(), set),
            Rule::Forbidden => (format!("no {name}"), !set),
        };
        if !holds {
            self.wrong.push(if set { name.to_owned() } else { format!("no {name}") });
        }
        self.demands.push(demand);
    }

    /// The value, and what of it is wrong.
    fn found(&self, value: impl Display) -> String {
        if self.wrong.is_empty() { value.to_string() } else { format!("{value}: {}", self.wrong.join(", ")) }
    }
}
