//! A schema of a PostgreSQL database, which one host at a time may use.
//!
//! # Fencing
//! Two hosts of one member on one store would spend the wallet's nonces twice. A host holds a lock that belongs to its
//! connection, so it has lost the lock only when it can't write any more; it does not connect again by itself. And each host
//! counts up a generation when it begins, and each transaction looks at it first: should some proxy let go of the lock without
//! the connection, the older host is refused.

use super::database::{Answer, Row, Value};
use super::{StoreError, migration, schema};
use bytes::BytesMut;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as answers;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc as jobs;
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::Severity;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long to wait for a lock: a server takes a moment to notice that a host was killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the network may be silent, for either side, until the other is taken for gone.
const SILENCE: Duration = Duration::from_secs(25);
/// How long the server may work on anything. A host that waits for ever would not even be restarted; one that ends finds, when
/// it starts again, either what it did or what was before.
const DEADLINE: Duration = Duration::from_secs(60);

/// Which locks are Postern's: `post` in ASCII. The schema's number tells them apart.
const LOCKS: i32 = 0x706f_7374;

const MAX_SCHEMA_LENGTH: usize = 63;

/// Where in which database.
#[derive(Debug, Clone)]
pub struct PostgresPlace {
    config: Config,
    schema: Schema,
    /// None: nothing leaves the machine, or whoever runs the host does not mind.
    tls: Option<Authorities>,
}

/// Why no database can be had by what is said of one. Nothing of that is repeated: there may be a password in it, whole or, for want of
/// encoding, cut to pieces.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Where the host's name begins is open.
    #[error("more than one `@`: those in a password are written %40")]
    TwoAts,
    /// It can't be read.
    #[error("not a URL of PostgreSQL, or one with an option that is not known")]
    Url,
    /// Its name would have to be quoted.
    #[error("not a schema's name: 1 to {MAX_SCHEMA_LENGTH} of a-z, 0-9 and _ wanted")]
    Schema,
    /// They are not PEM.
    #[error("the authorities can't be read: {0}")]
    Authorities(String),
    /// There are none.
    #[error("no certificate of an authority in it")]
    NoAuthority,
}

/// A database, as a connection URL (or `key=value` pairs, as libpq knows them) says.
#[derive(Debug, Clone)]
pub struct DatabaseUrl(Config);

impl DatabaseUrl {
    /// Reads the URL.
    pub fn parse(url: &str) -> Result<Self, PlaceError> {
        if url.matches('@').count() > 1 {
            return Err(PlaceError::TwoAts);
        }
        url.parse().map(Self).map_err(|_| PlaceError::Url)
    }
}

/// The name of a schema, which needs no quoting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema(String);

impl Schema {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, PlaceError> {
        let of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || name.len() > MAX_SCHEMA_LENGTH || !name.chars().all(of_name) {
            return Err(PlaceError::Schema);
        }
        Ok(Self(name.to_owned()))
    }
}

/// Whose certificates a server may have.
#[derive(Debug, Clone)]
pub enum Authorities {
    /// Those that the operating system trusts.
    System,
    /// These.
    Listed(Vec<CertificateDer<'static>>),
}

impl Authorities {
    /// Reads a list, PEM.
    pub fn parse(pem: &[u8]) -> Result<Self, PlaceError> {
        let listed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let listed = listed.map_err(|error| PlaceError::Authorities(error.to_string()))?;
        if listed.is_empty() { Err(PlaceError::NoAuthority) } else { Ok(Self::Listed(listed)) }
    }
}

impl PostgresPlace {
    /// Does not connect yet. TLS is used unless the server is on the same machine, or the URL says `sslmode=disable`; the server's
    /// certificate is verified in any case.
    pub fn new(url: DatabaseUrl, schema: Schema, password: Option<&str>, authorities: Authorities) -> Self {
        let DatabaseUrl(mut config) = url;
        if let Some(password) = password {
            config.password(password);
        }
        let remote = |host: &Host| match host {
            Host::Unix(_) => false,
            Host::Tcp(name) => {
                name != "localhost"
                    && !name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        };
        let wanted = match config.get_ssl_mode() {
            SslMode::Disable => false,
            SslMode::Prefer => {
                config.get_hosts().iter().any(remote)
                    || config.get_hostaddrs().iter().any(|address| !address.is_loopback())
            }
            _ => true,
        };
        config.ssl_mode(if wanted { SslMode::Require } else { SslMode::Disable });
        config.application_name("postern");
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(PATIENCE).tcp_user_timeout(SILENCE);
        config.keepalives_idle(SILENCE / 2).keepalives_interval(SILENCE / 5).keepalives_retries(2);
        Self { config, schema, tls: wanted.then_some(authorities) }
    }

    async fn connect(&self, warned: Warned) -> Result<(Client, tokio::task::JoinHandle<()>), StoreError> {
        let unreachable = |error: tokio_postgres::Error| StoreError::Unreachable {
            place: self.to_string(),
            reason: explain(&error),
        };
        let Some(authorities) = &self.tls else {
            let (client, connection) = self.config.connect(NoTls).await.map_err(unreachable)?;
            return Ok((client, tokio::spawn(drive(connection, warned))));
        };
        let tls = client_config(authorities).map_err(|error| StoreError::Unreachable {
            place: self.to_string(),
            reason: format!("TLS: {error}"),
        })?;
        let (client, connection) =
            self.config.connect(MakeRustlsConnect::new(tls)).await.map_err(unreachable)?;
        Ok((client, tokio::spawn(drive(connection, warned))))
    }
}

/// Whether the server has warned of anything.
type Warned = Arc<AtomicBool>;

/// Moves bytes until the connection ends; what ends it ends whatever was asked over it.
async fn drive<S, T>(mut connection: Connection<S, T>, warned: Warned)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message
            && notice.parsed_severity() == Some(Severity::Warning)
        {
            tracing::warn!(message = notice.message(), "PostgreSQL warns");
            warned.store(true, Ordering::SeqCst);
        }
    }
}

fn client_config(authorities: &Authorities) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    Ok(match authorities {
        Authorities::System => {
            let verifier = rustls_platform_verifier::Verifier::new(provider)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
        Authorities::Listed(listed) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in listed {
                roots.add(certificate.clone())?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    })
}

impl std::fmt::Display for PostgresPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        write!(f, "schema {} of PostgreSQL database {database}", self.schema.0)
    }
}

/// An error with its causes, in one line.
fn explain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.replace('\n', "; ")
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(explain(&error))
    }
}

/// One statement, or several without parameters, and where the answer is awaited.
struct Job {
    what: What,
    answer: answers::Sender<Result<Answer, StoreError>>,
}

enum What {
    Run { sql: String, values: Vec<Value> },
    Batch { sql: String },
}

/// A connection, kept by a thread of its own: the store waits for its answers, as it waits for the disk.
pub(super) struct Server {
    jobs: Option<jobs::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
    generation: i64,
}

impl Server {
    pub(super) fn open(place: &PostgresPlace) -> Result<Self, StoreError> {
        let (sender, receiver) = jobs::unbounded_channel();
        let (connected, is_connected) = answers::channel();
        let thread = {
            let place = place.clone();
            std::thread::Builder::new()
                .name("postgres".to_owned())
                .spawn(move || keep_connection(&place, receiver, &connected))
                .map_err(|error| StoreError::Postgres(error.to_string()))?
        };
        let mut server = Self { jobs: Some(sender), thread: Some(thread), generation: 0 };
        is_connected.recv().map_err(|_| gone())??;
        server.prepare(place)?;
        Ok(server)
    }

    fn prepare(&mut self, place: &PostgresPlace) -> Result<(), StoreError> {
        let Schema(schema) = &place.schema;
        // Asked first: making what exists needs a right that may be missing.
        if self.number("SELECT count(*) FROM pg_namespace WHERE nspname = ?1", schema)? == 0 {
            self.batch(&format!("CREATE SCHEMA \"{schema}\""))?;
        }
        self.batch(&format!("SET search_path TO \"{schema}\""))?;
        self.check_settings()?;
        self.let_go_of_the_lost()?;
        self.lock(place)?;
        self.batch("BEGIN")?;
        let exists = "SELECT count(*) FROM pg_tables WHERE schemaname = ?1 AND tablename = 'postern'";
        if self.number(exists, schema)? == 0 {
            self.batch(&schema::in_postgres(schema::TABLES))?;
            let version = schema::VERSION;
            self.batch(&format!(
                "CREATE TABLE postern (version BIGINT NOT NULL, generation BIGINT NOT NULL); \
                 INSERT INTO postern VALUES ({version}, 0)"
            ))?;
        }
        let found = self.one("SELECT version FROM postern", Vec::new())?.integer(0)?;
        migration::check_version(found)?;
        let next = "UPDATE postern SET generation = generation + 1 RETURNING generation";
        self.generation = self.one(next, Vec::new())?.integer(0)?;
        self.batch("COMMIT")
    }

    /// A commit that returned must survive a power cut, as the server's own documentation understands it; and any text must
    /// be one that can be stored.
    fn check_settings(&mut self) -> Result<(), StoreError> {
        for (setting, expected) in [("fsync", "on"), ("full_page_writes", "on"), ("server_encoding", "UTF8")]
        {
            let row = self.one("SELECT current_setting(?1)", vec![setting.into()])?;
            if row.text(0)? != expected {
                return Err(StoreError::Setting { setting, expected, found: row.text(0)?.to_owned() });
            }
        }
        // Not less than on this server's disk, and on its synchronous standbys' if it has any.
        let sql = "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
             WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)";
        self.one(sql, Vec::new()).map(|_| ())
    }

    /// Makes the server close the connections of hosts that are gone without a word, and their locks with them: left to
    /// itself, it waits for hours.
    fn let_go_of_the_lost(&mut self) -> Result<(), StoreError> {
        let (idle, interval) = (SILENCE.as_secs() / 2, SILENCE.as_secs() / 5);
        self.batch(&format!(
            "SET tcp_keepalives_idle = {idle}; SET tcp_keepalives_interval = {interval}; SET tcp_keepalives_count = 2; \
             SET tcp_user_timeout = '{silence}s'; SET idle_in_transaction_session_timeout = '{silence}s'",
            silence = SILENCE.as_secs()
        ))
    }

    fn lock(&mut self, place: &PostgresPlace) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT pg_try_advisory_lock({LOCKS}, oid::int4)::int4::int8 FROM pg_namespace WHERE nspname = ?1"
        );
        let begun = Instant::now();
        while self.number(&sql, &place.schema.0)? == 0 {
            if begun.elapsed() > PATIENCE {
                return Err(StoreError::InUse { place: place.to_string() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Begins a transaction, unless another host has begun to use the store since this one did.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        self.batch("BEGIN")?;
        // The row stays locked until the transaction ends: nobody takes over in its middle.
        let found =
            self.one("SELECT generation FROM postern FOR UPDATE", Vec::new()).and_then(|row| row.integer(0));
        let refused = match found {
            Ok(found) if found == self.generation => return Ok(()),
            Ok(found) => StoreError::TakenOver { own: self.generation, found },
            Err(error) => error,
        };
        // Nothing was done yet; without a connection there is no transaction either.
        let _ = self.batch("ROLLBACK");
        Err(refused)
    }

    pub(super) fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<Answer, StoreError> {
        self.ask(What::Run { sql: sql.replace('?', "$"), values })
    }

    pub(super) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.ask(What::Batch { sql: sql.to_owned() }).map(|_| ())
    }

    pub(super) fn number_on(&mut self, table: &str) -> Result<(), StoreError> {
        self.batch(&format!(
            "SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
        ))
    }

    fn one(&mut self, sql: &str, values: Vec<Value>) -> Result<Row, StoreError> {
        self.run(sql, values)?.rows.pop().ok_or(StoreError::Damaged { table: "postern" })
    }

    fn number(&mut self, sql: &str, value: &str) -> Result<i64, StoreError> {
        self.one(sql, vec![value.into()])?.integer(0)
    }

    fn ask(&self, what: What) -> Result<Answer, StoreError> {
        let (answer, answered) = answers::channel();
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job { what, answer }).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

impl Drop for Server {
    /// When this returns, the connection is closed.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there would be nothing left to close.
            let _ = thread.join();
        }
    }
}

fn gone() -> StoreError {
    StoreError::Postgres("the connection is gone".to_owned())
}

/// Connects, and does what is asked until nobody can ask any more.
fn keep_connection(
    place: &PostgresPlace,
    mut jobs: jobs::UnboundedReceiver<Job>,
    connected: &answers::Sender<Result<(), StoreError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = connected.send(Err(StoreError::Postgres(error.to_string())));
            return;
        }
    };
    let warned = Warned::default();
    runtime.block_on(async {
        let connecting = tokio::time::timeout(DEADLINE, place.connect(Arc::clone(&warned)));
        let (client, connection) = match connecting.await.unwrap_or_else(|_| Err(late())) {
            Ok(pair) => pair,
            Err(error) => {
                let _ = connected.send(Err(error));
                return;
            }
        };
        let _ = connected.send(Ok(()));
        let mut statements = HashMap::new();
        while let Some(Job { what, answer }) = jobs.recv().await {
            let is_commit = matches!(&what, What::Batch { sql } if sql == "COMMIT");
            warned.store(false, Ordering::SeqCst);
            let worked = tokio::time::timeout(DEADLINE, work(&client, &mut statements, what)).await;
            // A commit that somebody made to wait no longer for the standbys is not safe there, and says so in a warning.
            let lost = worked.is_err() || is_commit && warned.load(Ordering::SeqCst);
            let worked = if lost { Err(late()) } else { worked.unwrap_or_else(|_| Err(late())) };
            // Whoever does not wait for the answer does not need it.
            let _ = answer.send(worked);
            if lost {
                // Nobody knows what this connection has done: it is not used again.
                break;
            }
        }
        drop(client);
        // Says goodbye.
        let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
    });
}

fn late() -> StoreError {
    StoreError::Postgres("the server does not answer in time, or not for its standbys".to_owned())
}

async fn work(
    client: &Client,
    statements: &mut HashMap<String, Statement>,
    what: What,
) -> Result<Answer, StoreError> {
    let (sql, values) = match what {
        What::Batch { sql } => {
            client.batch_execute(&sql).await?;
            return Ok(Answer { rows: Vec::new(), changed: 0 });
        }
        What::Run { sql, values } => (sql, values),
    };
    let statement = match statements.get(&sql) {
        Some(statement) => statement.clone(),
        None => {
            let statement = client.prepare(&sql).await?;
            statements.insert(sql, statement.clone());
            statement
        }
    };
    let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    let width = statement.columns().len();
    if width == 0 {
        let changed = client.execute(&statement, &parameters).await?;
        return Ok(Answer { rows: Vec::new(), changed });
    }
    let found = client.query(&statement, &parameters).await?;
    let row = |row: &tokio_postgres::Row| {
        (0..width).map(|column| row.try_get(column)).collect::<Result<_, _>>().map(Row)
    };
    Ok(Answer { rows: found.iter().map(row).collect::<Result<_, _>>()?, changed: 0 })
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        // Each in the columns of its own kind, as SQLite's strict tables have it.
        match (self, kind) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Integer(number), &Type::INT8) => number.to_sql(kind, out),
            (Self::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(kind, out),
            (Self::Text(text), kind) if <String as ToSql>::accepts(kind) => text.to_sql(kind, out),
            _ => Err(format!("a value of another kind than {kind}").into()),
        }
    }

    fn accepts(kind: &Type) -> bool {
        <Self as FromSql>::accepts(kind)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *kind {
            Type::INT8 => Self::Integer(i64::from_sql(kind, raw)?),
            Type::BYTEA => Self::Bytes(Vec::from_sql(kind, raw)?),
            _ => Self::Text(String::from_sql(kind, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::BYTEA) || <String as FromSql>::accepts(kind)
    }
}
