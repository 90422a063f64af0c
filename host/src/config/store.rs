//! Where the host keeps what must survive.

use super::fault::{Faults, FieldError, Reported};
use super::section::Section;
use crate::store::{Authorities, DatabaseUrl, Place, PostgresPlace, Schema};
use std::path::Path;

/// `[postgres]`, a database of this member's alone, which may be replicated; SQLite in `data_dir` if it is left out:
/// - `url`, as in `postgres://postern@db.example.org/postern`. TLS is used unless the server is on this machine, or it says
///   `sslmode=disable`;
/// - `schema` of the tables, made if it is not there;
/// - `password`, a file, if it is not to be in the URL;
/// - `ca`, a file with the authorities that the server's certificate may be of, PEM; the operating system's if it is left out.
pub(super) fn read(
    file: &mut Section,
    data_dir: Result<&Path, Reported>,
    faults: &mut Faults,
) -> Result<Place, Reported> {
    let Some(mut section) = file.optional_section("postgres", faults)? else {
        return Ok(Place::Directory(data_dir?.to_owned()));
    };
    let url = section.required::<String>("url", faults);
    let database = url.and_then(|url| faults.check("postgres.url", DatabaseUrl::parse(&url)));
    let schema = section.optional::<String>("schema", faults).and_then(|name| {
        faults.check("postgres.schema", Schema::parse(name.as_deref().unwrap_or("postern")))
    });
    let password = section.optional_path("password", faults).and_then(|path| {
        path.map(|path| {
            let text = String::from_utf8(read_file("postgres.password", &path, faults)?);
            faults.check("postgres.password", text.map_err(|_| FieldError::NotText { path }))
        })
        .transpose()
    });
    let authorities = section.optional_path("ca", faults).and_then(|path| match path {
        None => Ok(Authorities::System),
        Some(path) => {
            let pem = read_file("postgres.ca", &path, faults)?;
            faults.check("postgres.ca", Authorities::parse(&pem))
        }
    });
    section.end(faults);
    let password = password?;
    let password = password.as_deref().map(|text| text.trim_end_matches(['\r', '\n']));
    Ok(Place::Postgres(Box::new(PostgresPlace::new(database?, schema?, password, authorities?))))
}

fn read_file(field: &str, path: &Path, faults: &mut Faults) -> Result<Vec<u8>, Reported> {
    let file = std::fs::read(path);
    faults.check(field, file.map_err(|source| FieldError::unread(path, source)))
}
