//! Lambda's side of the Runtime API. It measures each call.
//!
//! Source: [Runtime API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use layergate_bench::Result;
use layergate_bench::http::{self, Connection};
use serde_json::Value;

const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const REQUEST_ID: &str = "5f1e1a0c-7d32-4b6e-9f55-0f6f5f2a8e11";
const FUNCTION_ARN: &str = "arn:aws:lambda:us-east-1:222222222222:function:f";

/// No call of any of the functions may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time limit of a call that the function is told: the longest that Lambda allows.
const TIME_LIMIT: Duration = Duration::from_secs(15 * 60);

/// When an event was sent, and when its answer arrived.
pub type Call = (Instant, Instant);

/// Sends the same event to one function, again and again.
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
    /// The number of the process that is served. Connections of earlier ones are dead.
    process: u64,
    /// Whether the process waits for an event.
    is_idle: bool,
    to_do: usize,
    started: Option<Instant>,
    calls: Vec<Call>,
    failure: Option<String>,
}

impl RuntimeApi {
    /// `is_right` checks each answer.
    pub fn serve(event: String, is_right: fn(&Value) -> bool) -> Result<Self> {
        let event = Mutex::new(event);
        let shared =
            Arc::new(Shared { event, is_right, state: Mutex::default(), changed: Condvar::new() });
        let server = shared.clone();
        let address = http::listen(move |stream| server.serve(stream))?;
        Ok(Self { address, shared })
    }

    /// Expects a new process, which will get this many events at first.
    pub fn expect_process(&self, calls: usize) {
        let mut state = self.shared.lock();
        *state = State { process: state.process + 1, to_do: calls, ..State::default() };
        self.shared.changed.notify_all();
    }

    /// Sends this many more events.
    pub fn offer(&self, calls: usize) {
        self.shared.lock().to_do = calls;
        self.shared.changed.notify_all();
    }

    /// Sends another event, once, and waits for the answer. Returns how long that took.
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

    /// Waits until all events of [`Self::offer`] are answered.
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

    fn serve(&self, stream: TcpStream) -> Result<()> {
        let process = self.lock().process;
        let mut connection = Connection::new(stream);
        while let Some(request) = connection.receive()? {
            let arrived = Instant::now();
            if request.word(1) == NEXT {
                if !self.next(process) {
                    break;
                }
                let deadline = SystemTime::now() + TIME_LIMIT;
                let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                     Lambda-Runtime-Aws-Request-Id: {REQUEST_ID}\r\n\
                     Lambda-Runtime-Deadline-Ms: {deadline}\r\n\
                     Lambda-Runtime-Trace-Id: Root=1-6740a1b2-0123456789abcdef01234567\r\n\
                     Lambda-Runtime-Invoked-Function-Arn: {FUNCTION_ARN}"
                );
                connection.send(&head, self.event().as_bytes())?;
            } else {
                let answer = serde_json::from_slice(request.body).unwrap_or(Value::Null);
                let right = request.word(1).ends_with("/response") && (self.is_right)(&answer);
                let failure = (!right).then(|| format!("{}: {answer}", request.word(1)));
                self.answered(process, arrived, failure);
                connection
                    .send("HTTP/1.1 202 Accepted\r\nContent-Type: application/json", b"{}")?;
            }
        }
        Ok(())
    }

    /// Waits until there is an event to send, and notes the time. `false` if that process is no
    /// longer served.
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
        state.failure = state.failure.take().or(failure); // keep the first one until it is read
        if state.to_do == 0 || state.failure.is_some() {
            self.changed.notify_all();
        }
    }
}
