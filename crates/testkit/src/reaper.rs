//! Nothing outlives us: a shell in a session of its own holds the other end of a pipe, and when the pipe closes, for whatever
//! reason, SIGKILL included, it kills the process groups and removes the folders that it was told about.
//!
//! `Drop` alone does not run on a signal, and `PR_SET_PDEATHSIG` follows the thread that forked, which in a test is gone early.
//! One reaper a process. It does nothing for a guard that was dropped in order: that one says so and is forgotten.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Interrupts first, because PostgreSQL then gives its shared memory back, and kills half a second later.
/// Lines of `+ group`, `- group`, `d folder`, `r folder`. A folder is only ever one that `Scratch` made.
const SCRIPT: &str = r#"
groups=' '; folders='
'
without() { case "$1" in *"$2$3$2"*) printf '%s' "${1%%"$2$3$2"*}$2${1#*"$2$3$2"}";; *) printf '%s' "$1";; esac; }
while read -r what name; do
  case $what in
    +) groups="$groups$name " ;;
    -) groups="$(without "$groups" ' ' "$name")" ;;
    d) folders="$folders$name
" ;;
    r) folders="$(without "$folders" '
' "$name"; printf .)"; folders="${folders%.}" ;;
  esac
done
for group in $groups; do kill -s INT -- "-$group" 2>/dev/null; done
[ "$groups" = ' ' ] || sleep 0.5
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
printf '%s' "$folders" | while read -r folder; do
  case $folder in */certwright-*) rm -rf -- "$folder" ;; esac
done
"#;

static REAPER: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();

pub(crate) fn note_group(group: u32) {
    tell(&format!("+ {group}\n"));
}

pub(crate) fn forget_group(group: u32) {
    tell(&format!("- {group}\n"));
}

pub(crate) fn note_folder(folder: &Path) {
    tell(&format!("d {}\n", folder.display()));
}

pub(crate) fn forget_folder(folder: &Path) {
    tell(&format!("r {}\n", folder.display()));
}

fn tell(line: &str) {
    let reaper = REAPER.get_or_init(start);
    if let Some(pipe) = reaper {
        let mut pipe = pipe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A reaper that someone killed leaves only the Drop guards; the peers themselves still work.
        let _ = pipe.write_all(line.as_bytes());
    }
}

fn start() -> Option<Mutex<ChildStdin>> {
    // A group of its own, so that Ctrl-C at the terminal does not take it along; no output, so that it keeps no pipe of ours open.
    let child = Command::new("sh")
        .args(["-c", SCRIPT])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.ok().and_then(|mut child| child.stdin.take()).map(Mutex::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_kills_what_was_noted_and_spares_what_was_forgotten() {
        let sleeper = || Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let (mut first, mut second, mut third) = (sleeper(), sleeper(), sleeper());
        let kept = std::env::temp_dir().join(format!("certwright-kept-{}", std::process::id()));
        let gone = std::env::temp_dir().join(format!("certwright-gone-{}", std::process::id()));
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::create_dir_all(&gone).unwrap();
        let mut reaper = Command::new("sh").args(["-c", SCRIPT]).process_group(0).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = reaper.stdin.take().unwrap();
        let (a, b, c) = (first.id(), second.id(), third.id());
        write!(pipe, "+ {a}\n+ {b}\n+ {c}\n- {b}\nd {}\nd {}\nr {}\n", kept.display(), gone.display(), kept.display()).unwrap();
        drop(pipe);
        assert!(reaper.wait().unwrap().success());
        assert!(!first.wait().unwrap().success());
        assert!(!third.wait().unwrap().success());
        assert!(second.try_wait().unwrap().is_none(), "the forgotten one still runs");
        assert!(!gone.exists());
        assert!(kept.exists());
        second.kill().unwrap();
        second.wait().unwrap();
        std::fs::remove_dir_all(&kept).unwrap();
    }
}
