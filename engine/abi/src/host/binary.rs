//! Why a file is no library of this machine, in words that the system's loader does not have.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::file::unreadable;

/// The first bytes of an ELF file up to the field that names the processor.
const HEADER: usize = 20;

/// ELF's numbers of processors, as far as anybody is likely to meet them.
const MACHINES: [(u16, &str); 8] = [
    (3, "x86"),
    (8, "mips"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
];

/// Looks at the first bytes of an ELF file. Other formats are left to the loader.
pub fn check(mut file: &File) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let mut header = Vec::new();
    file.rewind().map_err(unreadable)?;
    file.take(HEADER as u64).read_to_end(&mut header).map_err(unreadable)?;
    if header.len() < HEADER || header[..4] != *b"\x7fELF" {
        return Err("is no shared library".into());
    }
    let number = match header[5] {
        2 => u16::from_be_bytes([header[18], header[19]]),
        _ => u16::from_le_bytes([header[18], header[19]]),
    };
    let name = MACHINES.iter().find(|(machine, _)| *machine == number).map_or("another processor", |(_, name)| name);
    let is_known_here = MACHINES.iter().any(|(_, machine)| *machine == std::env::consts::ARCH);
    if is_known_here && name != std::env::consts::ARCH {
        return Err(format!("is built for {name}, this machine is {}", std::env::consts::ARCH));
    }
    let (found, needed) = (file.metadata().map_err(unreadable)?.len(), needed_bytes(file).map_err(unreadable)?);
    match found < needed {
        true => Err(format!("is cut off: it has {found} bytes, at least {needed} are needed")),
        false => Ok(()),
    }
}

/// How many bytes an ELF file of 64 bits must have: the loader maps what its table of segments names, and touching
/// what lies behind the end of the file ends the process.
fn needed_bytes(mut file: &File) -> std::io::Result<u64> {
    /// The header, and one entry of the table.
    const SIZES: (usize, usize) = (64, 56);
    let mut header = [0; SIZES.0];
    file.rewind()?;
    if !is_read(file, &mut header)? {
        return Ok(SIZES.0 as u64);
    }
    let is_of_another_layout = header[4] != 2 || header[5] != if cfg!(target_endian = "big") { 2 } else { 1 };
    if is_of_another_layout {
        return Ok(0);
    }
    let (table, count) = (eight_bytes(&header[32..40]), u16::from_ne_bytes([header[56], header[57]]));
    let mut end = table.saturating_add(u64::from(count) * SIZES.1 as u64);
    file.seek(SeekFrom::Start(table))?;
    for _ in 0..count {
        let mut segment = [0; SIZES.1];
        if !is_read(file, &mut segment)? {
            break;
        }
        end = end.max(eight_bytes(&segment[8..16]).saturating_add(eight_bytes(&segment[32..40])));
    }
    Ok(end)
}

/// Fills the buffer; false when the file ends before.
fn is_read(mut file: &File, buffer: &mut [u8]) -> std::io::Result<bool> {
    match file.read_exact(buffer) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

fn eight_bytes(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().expect("the ranges have eight bytes"))
}

/// What the loader says, without the path that stands before it already.
pub fn reason(error: &libloading::Error, path: &Path) -> String {
    let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    words.replace(&format!("{}: ", path.display()), "")
}
