//! Several workers and plugins: what they share, and time.

use std::time::Duration;

use super::guest::{Guest, SLOT, connection, note, seen};
use crate::sandbox::{Headers, Metric, Node, Plugin, StartError, Vm, Workers, World};

const CONTINUE: &str = "(i32.const 0)";

/// A filter whose requests count, share what they did last, and hand work to whoever takes it.
fn busy(vm_id: &str) -> (Guest, Plugin) {
    let mut guest = Guest::default();
    let (metric, queue, item, key) =
        (guest.put("requests"), guest.put("work"), guest.put("item"), guest.put("key"));
    let define = format!("(drop (call $define (i32.const 0) {metric} (i32.const 48)))");
    let register = note(&format!("(call $register {queue} (i32.const 52))"));
    guest.on(
        "proxy_on_vm_start",
        "(param i32 i32) (result i32)",
        &format!("{define} {register} (i32.const 1)"),
    );
    guest.on_request(&format!(
        "(drop (call $increment (i32.load (i32.const 48)) (i64.const 1))) {} {} {CONTINUE}",
        note(&format!("(call $enqueue (i32.load (i32.const 52)) {item})")),
        note(&format!("(call $share {key} {item} (i32.const 0))")),
    ));
    let take = note(&format!("(call $dequeue (local.get 1) {SLOT})"));
    guest.on("proxy_on_queue_ready", "(param i32 i32)", &format!("{take} (call $say) {take}"));
    (guest, Plugin { vm_id: vm_id.to_owned(), ..Plugin::default() })
}

fn workers(guest: &Guest, plugin: Plugin) -> Workers {
    guest.module().start_workers(&Node::default(), plugin, 2).unwrap()
}

fn ask(vm: &Vm) {
    drop(vm.http(&connection(), Headers::new()).unwrap());
}

#[test]
fn workers_share_metrics_data_and_queues_and_the_last_to_register_is_told() {
    let (guest, plugin) = busy("v");
    let workers = workers(&guest, plugin);
    ask(&workers[0]);
    ask(&workers[1]);
    assert_eq!(workers[0].metrics()["requests"], Metric::Counter(2));
    assert_eq!(workers[1].shared_data(b"key").as_deref(), Some(&b"item"[..]));
    assert_eq!((seen(&workers[0]), seen(&workers[1])), (vec!["0".to_owned(); 3], vec!["0".to_owned(); 3]));
    workers.turn().unwrap();
    assert!(seen(&workers[0]).is_empty());
    // Told once for each item; the first time round it takes both.
    assert_eq!(seen(&workers[1]), ["0", "item", "0", "7", "item", "7"]);
}

#[test]
fn a_queue_of_another_vm_id_is_found_by_its_name_and_unknown_ones_are_not() {
    let (guest, plugin) = busy("v");
    let world = World::new();
    let owner = guest.module().start_in(&world, &Node::default(), plugin).unwrap();
    let mut other = Guest::default();
    let (owner_id, own_id, name, item) =
        (other.put("v"), other.put(""), other.put("work"), other.put("hello"));
    let calls = [
        format!("(call $resolve {owner_id} {name} (i32.const 48))"),
        format!("(call $resolve {own_id} {name} (i32.const 52))"),
        format!("(call $enqueue (i32.load (i32.const 48)) {item})"),
        format!("(call $enqueue (i32.const 77) {item})"),
        format!("(call $dequeue (i32.const 77) {SLOT})"),
    ];
    other.on_request(&format!("{} {CONTINUE}", calls.map(|call| note(&call)).concat()));
    let plugin = Plugin { vm_id: "w".to_owned(), ..Plugin::default() };
    let vm = other.module().start_in(&world, &Node::default(), plugin).unwrap();
    ask(&vm);
    assert_eq!(seen(&vm), ["0", "1", "0", "1", "1"]);
    drop(seen(&owner));
    assert!(owner.turn().unwrap());
    assert_eq!(seen(&owner), ["0", "hello", "7"]);
    assert!(!owner.turn().unwrap(), "there is nothing more to tell");
    assert_eq!(world.shared_data("w", b"key"), None);
}

#[test]
fn a_write_of_another_worker_makes_a_number_old() {
    let mut guest = Guest::default();
    let (key, value) = (guest.put("k"), guest.put("v"));
    // Each stream reads the number as it begins, and writes with it as it ends.
    let read = note(&format!("(call $shared {key} {SLOT} (i32.const 48))"));
    let write = note(&format!("(call $share {key} {value} (i32.load (i32.const 48)))"));
    guest.on_request(&format!("{read} {CONTINUE}"));
    guest.on("proxy_on_log", "(param i32)", &write);
    let workers = workers(&guest, Plugin::default());
    ask(&workers[0]);
    assert_eq!(seen(&workers[0]), ["1", "0"], "a new key takes any number");
    let [one, two] = [0, 1].map(|nth: usize| workers[nth].http(&connection(), Headers::new()).unwrap());
    drop((one, two));
    assert_eq!(
        (seen(&workers[0]), seen(&workers[1])),
        (vec!["0".into(), "0".into()], vec!["0".into(), "8".to_owned()])
    );
}

#[test]
fn timers_fire_at_their_time_and_start_over_when_they_have_fired() {
    let mut guest = Guest::default();
    let start = "(param i32 i32) (result i32)";
    guest.on("proxy_on_vm_start", start, "(drop (call $period (i32.const 400))) (i32.const 1)");
    // What time it is, in tenths of a second.
    let tenths = "(drop (call $now (i32.const 48)))
        (call $note (i32.wrap_i64 (i64.div_u (i64.load (i32.const 48)) (i64.const 100000000))))";
    // The second time it asks for a shorter period.
    let shorter = "(if (i64.eq (i64.load (i32.const 48)) (i64.const 800000000)) (then (drop (call $period (i32.const 100)))))";
    guest.on("proxy_on_tick", "(param i32)", &format!("{tenths} {shorter}"));
    let vm = guest.start();
    vm.advance(Duration::from_millis(399)).unwrap();
    assert!(seen(&vm).is_empty());
    vm.advance(Duration::from_millis(601)).unwrap();
    assert_eq!(seen(&vm), ["4", "8", "9", "10"]);
    assert_eq!(vm.time(), Duration::from_secs(1));
}

#[test]
fn the_main_threads_timer_fires_beside_the_workers_and_its_lines_are_its_own() {
    let mut guest = Guest::default();
    let metric = guest.put("ticks");
    let start = "(param i32 i32) (result i32)";
    let define = format!("(drop (call $define (i32.const 0) {metric} (i32.const 48)))");
    guest.on(
        "proxy_on_vm_start",
        start,
        &format!("{define} (drop (call $period (i32.const 400))) (i32.const 1)"),
    );
    let count = "(drop (call $increment (i32.load (i32.const 48)) (i64.const 1)))";
    guest.on("proxy_on_tick", "(param i32)", &format!("{count} (call $note (i32.const 5))"));
    let workers = workers(&guest, Plugin::default());
    workers.advance(Duration::from_millis(900)).unwrap();
    assert_eq!(workers[0].metrics()["ticks"], Metric::Counter(6), "twice in each of three VMs");
    let lines = |lines: Vec<crate::sandbox::LogLine>| lines.len();
    assert_eq!((lines(workers[1].take_logs()), lines(workers[1].take_main_logs())), (2, 2));
}

#[test]
fn the_main_thread_tries_a_plugin_before_the_workers_and_what_it_wrote_stays() {
    let mut guest = Guest::default();
    let metric = guest.put("configured");
    let count = format!(
        "(drop (call $define (i32.const 0) {metric} (i32.const 48)))
         (drop (call $increment (i32.load (i32.const 48)) (i64.const 1)))"
    );
    let read = format!("(drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) {SLOT}))");
    let verdict = "(i32.ne (i32.load8_u (i32.load (i32.const 16))) (i32.const 110))";
    guest.on("proxy_on_configure", "(param i32 i32) (result i32)", &format!("{count} {read} {verdict}"));
    let workers = workers(&guest, Plugin { configuration: b"yes".to_vec(), ..Plugin::default() });
    assert_eq!(
        workers[0].metrics()["configured"],
        Metric::Counter(4),
        "a canary, the main thread and two workers"
    );
    let refused = workers.configure("no").expect_err("refused");
    assert!(matches!(refused, StartError::Refused { .. }));
    assert_eq!(workers[0].metrics()["configured"], Metric::Counter(5), "only the canary has seen it");
    workers.configure("yet").unwrap();
    assert_eq!(workers[1].metrics()["configured"], Metric::Counter(9));
}

#[test]
fn plugins_of_one_vm_have_a_root_each_and_one_memory() {
    let mut guest = Guest::default();
    let name = guest.put("plugin_name");
    let say = format!("(drop (call $property {name} {SLOT})) (call $say)");
    // A count in memory, which both plugins see.
    let count = "(i32.store (i32.const 48) (i32.add (i32.load (i32.const 48)) (i32.const 1))) (call $note (i32.load (i32.const 48)))";
    guest.on_request(&format!("{say} {count} {CONTINUE}"));
    let plugin = |name: &str| Plugin { name: name.to_owned(), ..Plugin::default() };
    let vm = guest.module().start(&Node::default(), plugin("one")).unwrap();
    let second = vm.add(plugin("two")).unwrap();
    ask(&vm);
    drop(second.http(&connection(), Headers::new()).unwrap());
    assert_eq!(seen(&vm), ["one", "1", "two", "2"]);
    second.configure("new").unwrap();
    drop(second.http(&connection(), Headers::new()).unwrap());
    assert_eq!(seen(&vm), ["two", "3"]);
}

#[test]
fn what_vms_count_on_threads_of_their_own_adds_up() {
    let (guest, plugin) = busy("v");
    let world = World::new();
    let start = || guest.module().start_in(&world, &Node::default(), plugin.clone()).unwrap();
    std::thread::scope(|scope| {
        for vm in [start(), start()] {
            scope.spawn(move || (0..50).for_each(|_| ask(&vm)));
        }
    });
    assert_eq!(world.metrics()["requests"], Metric::Counter(100));
}
