//! Processes that are measured: the CPU that they run on, the time and memory that they use, and
//! how they end.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;

/// A process. Dropping this value ends it.
#[derive(Debug)]
pub struct Process {
    /// The process.
    pub child: Child,
    /// The moment before it was started.
    pub started: Instant,
}

/// What a process used until it ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// Whether it succeeded.
    pub success: bool,
    /// From the moment before it was started.
    pub seconds: f64,
    /// In MiB. It can be read only while the process runs, so the last 10 ms are not included.
    pub peak_rss: f64,
}

impl Process {
    /// Starts a command on the CPUs of this thread.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let started = Instant::now();
        let child =
            command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        Ok(Self { child, started })
    }

    /// Starts a command on one CPU. The process inherits the CPU from the thread that starts it. A
    /// wrapper such as taskset would add an exec to the measured start.
    pub fn spawn_on(cpu: usize, command: &mut Command) -> Result<Self> {
        thread::scope(|scope| {
            let starter = scope.spawn(|| {
                pin(&[cpu])?;
                Self::spawn(command)
            });
            starter.join().map_err(|_| "the thread that starts processes panicked")?
        })
    }

    /// The CPU time of its threads.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            nanoseconds += time_run(&fs::read_to_string(task?.path().join("schedstat"))?)?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// `VmRSS`, or `VmHWM` for its peak, in MiB.
    pub fn memory(&self, field: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kibibytes =
            line.and_then(|line| line.split_ascii_whitespace().next()).ok_or("no such field")?;
        Ok(kibibytes.parse::<f64>()? / 1024.0)
    }

    /// Waits until it ends by itself.
    pub fn finish(&mut self) -> Result<Ended> {
        let mut peak_rss: f64 = 0.0;
        loop {
            if let Some(status) = self.child.try_wait()? {
                let seconds = self.started.elapsed().as_secs_f64();
                return Ok(Ended { success: status.success(), seconds, peak_rss });
            }
            // This fails only if the process has just ended.
            peak_rss = peak_rss.max(self.memory("VmHWM").unwrap_or(0.0));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to end, and waits until it has ended.
    pub fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into()?).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // These fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time of this thread.
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

/// Keeps this thread, and the threads and processes that it starts, on these CPUs.
pub fn pin(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}
