use std::io::{BufRead, BufReader};

use super::*;

/// Whether this process runs; one that has ended and waits to be reaped does not.
fn is_running(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

fn wait_until_ended(pid: &str) {
    let deadline = Instant::now() + PATIENCE;
    while is_running(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        std::thread::yield_now();
    }
}

#[test]
fn a_child_dies_with_a_parent_that_is_killed_with_minus_9() {
    // The parent is a shell that holds the write end of the pipe, as we do; its child is the keeper, and the
    // grandchild tells its own number.
    let script = r#"mkfifo "$0/pipe"; sh -c "$1" keeper sh -c 'echo $$; exec sleep 1000' <"$0/pipe" & exec 9>"$0/pipe"; wait"#;
    let dir = tempfile::tempdir().expect("dir");
    let mut parent = Command::new("sh")
        .args(["-c", script])
        .arg(dir.path())
        .arg(KEEPER)
        .stdout(Stdio::piped())
        .spawn()
        .expect("parent");
    let mut pid = String::new();
    BufReader::new(parent.stdout.take().expect("stdout")).read_line(&mut pid).expect("pid");
    let pid = pid.trim();
    assert!(is_running(pid));
    parent.kill().expect("kill -9");
    parent.wait().expect("reaped");
    wait_until_ended(pid);
}

#[test]
fn a_child_that_ends_by_itself_is_noticed_with_what_it_said() {
    let dir = tempfile::tempdir().expect("dir");
    let log = dir.path().join("log");
    // `ls -c <missing file>` stands for an Envoy with a bootstrap it cannot read.
    let mut process = Process::start(Path::new("ls"), Path::new("/no/such/bootstrap"), &log).expect("start");
    assert!(process.wait(), "not noticed");
    assert!(!process.log_tail().is_empty());
}
