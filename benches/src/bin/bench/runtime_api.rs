//! The Lambda service's side of the Runtime API, with a clock.
//!
//! Source: [Runtime API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use layergate_bench::Result;
use layergate_bench::http::Connection;
use serde_json::Value;

const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const REQUEST_ID: &str = "5f1e1a0c-7d32-4b6e-9f55-0f6f5f2a8e11";

/// Longer than any call of any of the functions may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a function is told that a call may take: the longest that Lambda has.
const TIME_LIMIT: Duration = Duration::from_secs(15 * 60);

/// When an event was handed out, and when its answer was there.
pub type Call = (Instant, Instant);

/// Hands an event to one function, over and over.
pub struct RuntimeApi {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    event: Mutex<String>,
    is_right: fn(&Value) -> bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Which process is being served: connections of an earlier one are dead.
    process: u64,
    /// Whether it asks for an event and has none.
    is_idle: bool,
    to_do: usize,
    started: Option<Instant>,
    calls: Vec<Call>,
    failure: Option<String>,
}

impl RuntimeApi {
    /// `is_right` judges each answer.
    pub fn serve(event: String, is_right: fn(&Value) -> bool) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let event = Mutex::new(event);
        let shared =
            Arc::new(Shared { event, is_right, state: Mutex::default(), changed: Condvar::new() });
        let server = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let process = server.lock().process;
                let server = server.clone();
                thread::spawn(move || server.serve(stream, process));
            }
        });
        Ok(Self { address, shared })
    }

    /// Expects a new process, which is to get so many events at first.
    pub fn expect_process(&self, calls: usize) {
        let mut state = self.shared.lock();
        *state = State { process: state.process + 1, to_do: calls, ..State::default() };
        self.shared.changed.notify_all();
    }

    /// Hands out so many events more.
    pub fn offer(&self, calls: usize) {
        self.shared.lock().to_do = calls;
        self.shared.changed.notify_all();
    }

    /// Hands out another event, once, and waits until it is answered. Returns how long that took.
    pub fn call(&self, event: String) -> Result<Duration> {
        *self.shared.event() = event;
        self.offer(1);
        let (started, answered) = *self.finished()?.first().ok_or("no call was made")?;
        Ok(answered - started)
    }

    /// Waits until the process asks for an event.
    pub fn idle(&self) -> Result<()> {
        let waiting = |state: &mut State| !state.is_idle;
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), PATIENCE, waiting);
        match waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            true => Err("a function has not asked for an event".into()),
            false => Ok(()),
        }
    }

    /// Waits until all events that were offered are answered.
    pub fn finished(&self) -> Result<Vec<Call>> {
        let waiting = |state: &mut State| {
            state.failure.is_none() && (state.to_do > 0 || state.started.is_some())
        };
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), PATIENCE, waiting);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.failure.take() {
            Some(failure) => Err(failure.into()),
            None if timeout.timed_out() => Err("a function has not answered".into()),
            None => Ok(std::mem::take(&mut state.calls)),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self) -> MutexGuard<'_, String> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream, process: u64) {
        // An error is the end of the connection, as when its process was ended.
        let _ = stream.set_nodelay(true);
        let mut connection = Connection::new(stream);
        while let Ok(Some(request)) = connection.receive() {
            let arrived = Instant::now();
            let sent = if request.word(1) == NEXT {
                if !self.next(process) {
                    return;
                }
                let deadline = SystemTime::now() + TIME_LIMIT;
                let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                     Lambda-Runtime-Aws-Request-Id: {REQUEST_ID}\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\n\
                     Lambda-Runtime-Trace-Id: Root=1-6740a1b2-0123456789abcdef01234567\r\n\
                     Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:222222222222:function:f"
                );
                connection.send(&head, self.event().as_bytes())
            } else {
                let answer = serde_json::from_slice(request.body).unwrap_or(Value::Null);
                let right = request.word(1).ends_with("/response") && (self.is_right)(&answer);
                let failure = (!right).then(|| format!("{}: {answer}", request.word(1)));
                self.answered(process, arrived, failure);
                connection.send("HTTP/1.1 202 Accepted\r\nContent-Type: application/json", b"{}")
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// Waits for an event to hand out, and starts the clock; `false` if that process is no longer
    /// served.
    fn next(&self, process: u64) -> bool {
        let mut state = self.lock();
        if state.process == process && state.to_do == 0 {
            state.is_idle = true;
            self.changed.notify_all();
        }
        let waiting = |state: &mut State| state.process == process && state.to_do == 0;
        let waited = self.changed.wait_while(state, waiting);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.process != process {
            return false;
        }
        state.is_idle = false;
        state.to_do -= 1;
        state.started = Some(Instant::now());
        true
    }

    fn answered(&self, process: u64, arrived: Instant, failure: Option<String>) {
        let mut state = self.lock();
        if state.process != process {
            return;
        }
        if let Some(started) = state.started.take() {
            state.calls.push((started, arrived));
        }
        state.failure = state.failure.take().or(failure); // the first, until it is read
        if state.to_do == 0 || state.failure.is_some() {
            self.changed.notify_all();
        }
    }
}
