//! Processes that are measured: on which CPU they run, what they used, and that they end.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;

/// A process that ends with this value.
#[derive(Debug)]
pub struct Process {
    /// The process.
    pub child: Child,
    /// Right before it was started.
    pub started: Instant,
}

impl Process {
    /// Starts a command on the CPUs of this thread.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let started = Instant::now();
        let child =
            command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        Ok(Self { child, started })
    }

    /// Starts a command on one CPU. It inherits that from the thread that starts it, which spares
    /// the exec that a wrapper such as taskset would add to its start.
    pub fn spawn_on(cpu: usize, command: &mut Command) -> Result<Self> {
        std::thread::scope(|scope| {
            let starter = scope.spawn(|| {
                pin(&[cpu])?;
                Self::spawn(command)
            });
            starter.join().map_err(|_| "the thread that starts processes panicked")?
        })
    }

    /// The time that its threads ran.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            nanoseconds += time_run(&fs::read_to_string(task?.path().join("schedstat"))?)?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// `VmRSS`, or `VmHWM` for the most that it ever was, in MiB.
    pub fn memory(&self, field: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kibibytes =
            line.and_then(|line| line.split_ascii_whitespace().next()).ok_or("no such field")?;
        Ok(kibibytes.parse::<f64>()? / 1024.0)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into()?).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time that this thread ran.
pub fn own_cpu_time() -> Result<Duration> {
    Ok(Duration::from_nanos(time_run(&fs::read_to_string("/proc/thread-self/schedstat")?)?))
}

fn time_run(schedstat: &str) -> Result<u64> {
    Ok(schedstat.split_ascii_whitespace().next().ok_or("schedstat is empty")?.parse()?)
}

/// The CPUs that this thread may run on.
pub fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Keeps this thread, and what it starts, on these CPUs.
pub fn pin(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}
