//! Which symbols a shared library exports, of libraries in the form ELF of 64 bits (Linux).

use std::path::Path;

/// A section with symbols that are looked up when a library is loaded.
const SHT_DYNSYM: u32 = 11;
/// The bytes of a symbol, and of a section's header.
const SYMBOL_SIZE: usize = 24;
const HEADER_SIZE: usize = 64;
/// What linkers put into every library by themselves.
const OF_LINKERS: [&str; 6] = ["_init", "_fini", "_edata", "_end", "__bss_start", "__end"];

/// The exported symbols, in order of their names.
///
/// # Errors
/// Why they are not known: a file of another form, or a damaged one.
pub fn exported(path: &Path) -> Result<Vec<String>, String> {
    let file = std::fs::read(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    let is_known_form = file.starts_with(b"\x7fELF\x02\x01");
    if !is_known_form {
        return Err("it is no ELF file of 64 bits".into());
    }
    let mut names = symbols(&file).ok_or("its table of symbols is damaged")?;
    names.retain(|name| !OF_LINKERS.contains(&name.as_str()));
    names.sort();
    names.dedup();
    Ok(names)
}

/// None when something points out of the file.
fn symbols(file: &[u8]) -> Option<Vec<String>> {
    let headers = number::<8>(file, 0x28)?;
    let n_headers = number::<2>(file, 0x3c)?;
    let header = |index: usize| {
        let start = headers.checked_add(index.checked_mul(HEADER_SIZE)?)?;
        file.get(start..start.checked_add(HEADER_SIZE)?)
    };
    let mut names = Vec::new();
    for index in 0..n_headers {
        let section = header(index)?;
        if number::<4>(section, 4)? != SHT_DYNSYM as usize {
            continue;
        }
        let texts = contents(file, header(number::<4>(section, 0x28)?)?)?;
        for symbol in contents(file, section)?.chunks_exact(SYMBOL_SIZE) {
            if is_exported(symbol) {
                let name = texts.get(number::<4>(symbol, 0)?..)?;
                let end = name.iter().position(|byte| *byte == 0)?;
                names.push(String::from_utf8_lossy(&name[..end]).into_owned());
            }
        }
    }
    Some(names)
}

fn contents<'a>(file: &'a [u8], section: &[u8]) -> Option<&'a [u8]> {
    let start = number::<8>(section, 0x18)?;
    file.get(start..start.checked_add(number::<8>(section, 0x20)?)?)
}

/// Defined here, global or weak, and visible.
fn is_exported(symbol: &[u8]) -> bool {
    let (binding, visibility) = (symbol[4] >> 4, symbol[5] & 3);
    let is_defined = symbol[6] != 0 || symbol[7] != 0;
    is_defined && matches!(binding, 1 | 2) && matches!(visibility, 0 | 3)
}

/// A little-endian number of so many bytes.
fn number<const SIZE: usize>(bytes: &[u8], at: usize) -> Option<usize> {
    let mut whole = [0; 8];
    whole[..SIZE].copy_from_slice(bytes.get(at..at.checked_add(SIZE)?)?);
    usize::try_from(u64::from_le_bytes(whole)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_elf_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        std::fs::write(&path, "MZ").unwrap();
        assert_eq!(exported(&path).unwrap_err(), "it is no ELF file of 64 bits");
        let mut damaged = b"\x7fELF\x02\x01".to_vec();
        damaged.resize(64, 0xff);
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(exported(&path).unwrap_err(), "its table of symbols is damaged");
    }
}
