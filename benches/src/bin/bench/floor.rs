//! The floor: a client that fetches the stand-in's answer again and again on an open connection. No
//! function can be faster.

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use layergate_bench::Result;
use layergate_bench::http::{self, Connection};
use layergate_bench::process;
use layergate_bench::statistics::milliseconds;

use crate::answers::Answers;
use crate::contest::{CALLS_A_ROUND, Figures};

/// The client, on a thread of its own, on the CPU of the measured functions.
pub struct Floor {
    work: Sender<()>,
    done: Receiver<Result<(Vec<f64>, Duration)>>,
    pub figures: Figures,
}

impl Floor {
    pub fn connect(cpu: usize, answers: &Answers) -> Result<Self> {
        let (work, rounds) = channel();
        let (finished, done) = channel();
        let address = answers.http;
        thread::spawn(move || {
            let prepared = process::pin(&[cpu]).and_then(|()| Ok(http::connect(address)?));
            let mut connection = match prepared {
                Ok(connection) => connection,
                Err(error) => return finished.send(Err(error)),
            };
            let request = http::message("POST / HTTP/1.1\r\nHost: localhost", &[b' '; 256]);
            for () in rounds {
                finished.send(requests(&mut connection, &request))?;
            }
            Ok(())
        });
        Ok(Self { work, done, figures: Figures::default() })
    }

    pub fn round(&mut self) -> Result<()> {
        self.work.send(())?;
        let (latencies, cpu) = self.done.recv()??;
        self.figures.requests += latencies.len() as u64;
        self.figures.warm.extend(latencies);
        self.figures.cpu += cpu;
        Ok(())
    }
}

fn requests(
    connection: &mut Connection<TcpStream>,
    request: &[u8],
) -> Result<(Vec<f64>, Duration)> {
    let cpu = process::own_cpu_time()?;
    let mut latencies = Vec::with_capacity(CALLS_A_ROUND);
    for _ in 0..CALLS_A_ROUND {
        let started = Instant::now();
        connection.send_bytes(request)?;
        connection.receive()?.ok_or("the stand-in closed a connection")?;
        latencies.push(milliseconds(started.elapsed()));
    }
    Ok((latencies, process::own_cpu_time()? - cpu))
}
