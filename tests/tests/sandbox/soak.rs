//! Hostile requests and reloads without end: the module never traps, and its memory stays what it was.
//!
//! `make soak` sends ten million and reloads as often as an hour of one change a second would.

use isthmus::sandbox::{Connection, Headers, HttpOutcome, PeerCertificate, Tls, Vm};
use policy::plan::Role;
use serde_json::json;

use super::{configuration, from, gateway, helloworld, ledger, node, peer, request, start};

/// How many of something, where the environment does not say.
fn many(variable: &str, few: u64) -> u64 {
    std::env::var(variable).map_or(few, |number| number.parse().expect("a number"))
}

/// Numbers without a pattern, the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn of<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        let at = self.roll(list.len() as u64);
        list.get(usize::try_from(at).expect("an index")).expect("one of them")
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.roll(most)).map(|_| u8::try_from(self.roll(256)).expect("a byte")).collect()
    }
}

const NAMES: [&str; 16] = [
    ":authority",
    ":method",
    ":path",
    ":scheme",
    "x-source-cluster",
    "x-source-network",
    "x-isthmus-route",
    "x-isthmus-token",
    "x-isthmus-reason",
    "x-destination-cluster",
    "x-forwarded-client-cert",
    "content-type",
    "cookie",
    "x-cell",
    "host",
    "",
];

const VALUES: [&[u8]; 22] = [
    b"",
    b"GET",
    b"/",
    b"/v1/../../etc/%2e%2e/%00/..;/x",
    b"/v1/accounts?x=%zz",
    b"\xff\xfe\x00\x80",
    b"\xc3\x28",
    b"cluster1",
    b"cluster2",
    b"cluster1,cluster2",
    b"cluster=cluster1;.;verdict=.=allow",
    b"ledger.payments",
    b"ledger.payments.svc.cluster.local:99999",
    b"[::1]:8080",
    b".......",
    b"application/grpc",
    b"session=;session=x;;;=;session",
    b"eyJhbGciOiJub25lIn0.e30.",
    b"....",
    b"Hash=00;URI=spiffe://cluster.local/ns/payments/sa/ledger",
    b"\r\n",
    b"%00%0d%0a%ff",
];

const SNIS: [&str; 8] = [
    "",
    "outbound_.",
    "outbound_._._._._._.",
    "outbound_.8080_._.reports.payments.svc.cluster.local",
    "outbound_.99999999999999999999_._.reports.payments.svc.cluster.local",
    "outbound_.8080_.\u{0}_.REPORTS.payments.svc.cluster.local",
    "*.svc.cluster.local",
    "xn--\u{fffd}",
];

fn headers(dice: &mut Dice, huge: &[u8]) -> Headers {
    let mut headers = if dice.roll(4) == 0 { Headers::new() } else { request(&[]) };
    let count = if dice.roll(500) == 0 { 1000 } else { dice.roll(8) };
    for _ in 0..count {
        let name = *dice.of(&NAMES);
        match dice.roll(200) {
            0 if count < 8 => headers.add(name, huge),
            1..20 => headers.add(name, dice.bytes(64)),
            _ => headers.add(name, *dice.of(&VALUES)),
        }
    }
    headers
}

/// Certificates that are cut, bent, or none, each with a digest of its own or with another's.
fn hostile_peer(dice: &mut Dice, good: &PeerCertificate) -> Option<PeerCertificate> {
    let mut peer = good.clone();
    match dice.roll(7) {
        0 => return None,
        1 => peer.pem.truncate(usize::try_from(dice.roll(peer.pem.len() as u64)).expect("a length")),
        2 => peer.pem = String::from_utf8_lossy(&dice.bytes(2000)).into_owned(),
        3 => peer.pem = peer.pem.replacen('M', "T", usize::try_from(dice.roll(5)).expect("a number")),
        4 => peer.uri_san = Some("spiffe://".repeat(usize::try_from(dice.roll(900)).expect("a number"))),
        5 => peer.valid = false,
        _ => {}
    }
    // The digest is Envoy's own: a peer cannot choose it, but there is no end of certificates.
    peer.sha256 = format!("{:064x}", dice.roll(20_000));
    Some(peer)
}

fn connection(dice: &mut Dice, good: &PeerCertificate) -> Connection {
    let cluster =
        dice.of(&["inbound|8080||", "outbound|1|x|a.b.svc.cluster.local", "||||", "", "inbound|99999||"]);
    from(None)
        .with_tls(Tls { peer: hostile_peer(dice, good), ..Tls::default() })
        .with_upstream_cluster(*cluster)
        .with_upstream_host_metadata(json!({"filter_metadata": {"istio": {"workload": ";;;;;;;cluster9"}}}))
        .with_server_name(*dice.of(&SNIS))
}

/// Sends so many hostile requests to the sidecar and gateway VMs; at the end they live and are no larger than before.
fn besiege(vms: &[Vm], gate: &Vm, requests: u64) {
    let huge = vec![b'x'; 64 * 1024];
    let good = peer("cluster2", "treasury");
    let mut dice = Dice(7);
    let mut settled = None;
    let size = || vms.iter().chain([gate]).map(Vm::memory_bytes).collect::<Vec<_>>();
    let mut sent = 0;
    while sent < requests {
        let connection = connection(&mut dice, &good);
        for _ in 0..=dice.roll(3) {
            for vm in vms {
                sent += 1;
                let stream = vm.http(&connection, headers(&mut dice, &huge)).expect("no trap");
                if matches!(stream.request(), HttpOutcome::Continue(_)) && dice.roll(4) > 0 {
                    stream.respond(headers(&mut dice, &huge)).expect("no trap");
                }
                stream.finish().expect("no trap");
            }
        }
        gate.connect(&connection).expect("no trap").finish().expect("no trap");
        if sent > requests / 2 && settled.is_none() {
            settled = Some(size());
        }
        if sent % 1000 < 12 {
            vms.iter().chain([gate]).for_each(|vm| drop(vm.take_logs()));
        }
    }
    assert_eq!(Some(size()), settled, "the second half took more memory than the first");
    for vm in vms.iter().chain([gate]) {
        assert!(vm.failure().is_none());
        assert!(vm.metrics().len() < 100, "a peer made names of metrics: {:?}", vm.metrics().keys());
    }
}

#[test]
fn hostile_requests_neither_trap_the_module_nor_make_it_grow() {
    let outbound = start(&node(), &configuration(Role::Outbound, "cluster1")).expect("a VM");
    let upstream = start(&node(), &configuration(Role::Upstream, "cluster1")).expect("a VM");
    let gate = start(&gateway(), &configuration(Role::Gateway, "cluster1")).expect("a VM");
    besiege(&[ledger(), outbound, upstream], &gate, many("REQUESTS", 30_000));
    // It has not forgotten what it is there for.
    let vm = ledger();
    assert!(super::send(&vm, &from(Some(peer("cluster2", "treasury"))), &[]).0.is_some());
}

#[test]
fn reloads_do_not_make_the_module_grow() {
    let changes = many("RELOADS", 300);
    let vm = start(&helloworld(), &configuration(Role::Inbound, "cluster1")).expect("a VM");
    let connection = from(Some(peer("cluster2", "treasury")));
    let mut settled = 0;
    for change in 0..changes {
        let mut plan = configuration(Role::Inbound, "cluster1");
        let allow = plan.pointer_mut("/plan/sections/0/allow").expect("a place");
        *allow = json!(vec![allow[0].clone(); usize::try_from(1 + change % 50).expect("a number")]);
        plan["digest"] = json!(format!("{change:064x}"));
        // A request is under way while the plan changes, and ends with the one that it began with.
        let stream = vm.http(&connection, request(&[])).expect("no trap");
        vm.configure(plan.to_string()).expect("a good configuration");
        stream.respond(Headers::from([(":status", "200")])).expect("no trap");
        stream.finish().expect("no trap");
        if change == changes / 2 {
            settled = vm.memory_bytes();
        }
    }
    assert_eq!(vm.memory_bytes(), settled, "the second half took more memory than the first");
    assert!(vm.metrics().len() < 10, "{:?}", vm.metrics().keys());
}
