//! Running another program, bounded in time, and finding it.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a program has to end once it is told to.
const GRACE: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const TICK: Duration = Duration::from_millis(10);

/// The first executable file of this name in a directory of `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

/// Whether a file is there that the system would run; a dangling link is not.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a program to its end and collects what it wrote; kills it when `limit` has passed.
pub(crate) fn output_within(command: &mut Command, limit: Duration) -> std::io::Result<Output> {
    collected(command.stdin(Stdio::null()), &[], limit)
}

/// The same for a program that is told something first: a little, which a pipe holds.
pub(crate) fn answer_within(command: &mut Command, input: &[u8], limit: Duration) -> std::io::Result<Output> {
    collected(command.stdin(Stdio::piped()), input, limit)
}

fn collected(command: &mut Command, input: &[u8], limit: Duration) -> std::io::Result<Output> {
    let deadline = Instant::now() + limit;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = drained(child.stdout.take());
    let stderr = drained(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not listen says why in its answer.
        let _deaf = stdin.write_all(input).is_err();
    }
    let collected = collect(&stdout, deadline).and_then(|out| Ok((out, collect(&stderr, deadline)?)));
    match collected {
        Ok((stdout, stderr)) => Ok(Output { status: child.wait()?, stdout, stderr }),
        Err(late) => {
            stop(&mut child)?;
            Err(late)
        }
    }
}

/// How a program failed: its exit status and the last lines of what it said.
pub(crate) fn failure(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let kept = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
    format!("{}: {}", output.status, kept.join(" / "))
}

fn drained<R: Read + Send + 'static>(pipe: Option<R>) -> Receiver<std::io::Result<Vec<u8>>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes)).map(|_| bytes);
        // Nobody listens once the deadline has passed.
        drop(send.send(read));
    });
    receive
}

fn collect(from: &Receiver<std::io::Result<Vec<u8>>>, deadline: Instant) -> std::io::Result<Vec<u8>> {
    match from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(read) => read,
        Err(RecvTimeoutError::Timeout) => Err(std::io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}

/// Ends a program: it is told to first, so that it can put right what it has begun, as helm does with a release.
fn stop(child: &mut Child) -> std::io::Result<()> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let told = id.is_some_and(|id| kill_process(id, Signal::TERM).is_ok());
    let deadline = Instant::now() + GRACE;
    while told && Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(TICK);
    }
    child.kill()?;
    child.wait().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::{answer_within, failure, on_path, output_within};
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let began = Instant::now();
        let error = output_within(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(30), "took {:?}", began.elapsed());
    }

    #[test]
    fn a_program_that_takes_too_long_is_told_to_end_before_it_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("put-right");
        let script = "trap 'echo put right > $0; kill $!; exit' TERM; sleep 60 >/dev/null 2>&1 & wait";
        let mut command = Command::new("sh");
        let error =
            output_within(command.args(["-c", script]).arg(&file), Duration::from_secs(2)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "put right\n");
    }

    #[test]
    fn a_failure_says_the_status_and_the_last_words() {
        let script = "for n in 1 2 3 4 5 6 7; do echo line $n >&2; done; exit 3";
        let output = output_within(Command::new("sh").args(["-c", script]), Duration::from_secs(30)).unwrap();
        assert_eq!(failure(&output), "exit status: 3: line 3 / line 4 / line 5 / line 6 / line 7");
    }

    #[test]
    fn more_output_than_a_pipe_holds_is_collected() {
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2";
        let output = output_within(Command::new("sh").args(["-c", script]), Duration::from_secs(30)).unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_000));
    }

    #[test]
    fn a_program_that_is_told_something_answers_it_and_one_that_does_not_listen_is_heard_too() {
        let limit = Duration::from_secs(30);
        let told = answer_within(&mut Command::new("cat"), b"registry.example", limit).unwrap();
        assert_eq!(told.stdout, b"registry.example");
        let deaf = answer_within(Command::new("sh").args(["-c", "exec <&-; echo no"]), b"x", limit).unwrap();
        assert_eq!(deaf.stdout, b"no\n");
    }

    #[test]
    fn a_program_is_found_on_the_path_by_its_name() {
        assert!(on_path("sh").is_some_and(|file| file.ends_with("sh")));
        assert_eq!(on_path("no-such-program-of-isthmus"), None);
    }
}
