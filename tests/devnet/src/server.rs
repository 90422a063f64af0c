//! Sockets and time: the only part of the crate that knows either.

use crate::Error;
use crate::world::Shared;
use axum::Router;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// How long a server may take to answer what is under way once it is asked to stop.
const GRACE: Duration = Duration::from_millis(500);

/// Opens a port on the loopback interface.
pub async fn listen(port: u16) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves until told to stop. Idle keep-alive connections do not hold the stop up.
pub fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) -> JoinHandle<()> {
    let mut told = stopped.clone();
    tokio::spawn(async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = told.wait_for(|stop| *stop).await;
        });
        let deadline = async {
            let _ = stopped.wait_for(|stop| *stop).await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            _ = server => {}
            () = deadline => {}
        }
    })
}

/// Makes a slot at every interval until told to stop. A machine too slow for the interval gets longer slots, not a burst.
pub fn tick(world: Shared, slot: Duration, mut stopped: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(slot);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval.tick().await;
        loop {
            tokio::select! {
                _ = interval.tick() => world.lock().advance(),
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    })
}
