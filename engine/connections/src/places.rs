//! How many connections each address has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

/// The places that addresses have taken.
pub struct Places {
    most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    owner: IpAddr,
}

impl Places {
    /// Of which one address may have so many.
    pub fn new(most: usize) -> Self {
        Places { most, taken: Mutex::default() }
    }

    /// A place for a connection; none when its address has as many as it may.
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let owner = owner(from);
        let mut taken = self.taken.lock().expect("no holder of this lock panics");
        let count = taken.entry(owner).or_default();
        // One that has none goes on to have one.
        if self.most.max(1) <= *count {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), owner })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().expect("no holder of this lock panics");
        if let Some(count) = taken.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}

/// Who an address belongs to: whoever has one of IPv6 has a network of 64 bits of them.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_so_many_places_and_gets_them_back() {
        let places = Arc::new(Places::new(2));
        let take = |from: &str| places.take(from.parse().unwrap());
        let mut first = vec![take("10.0.0.1").unwrap(), take("::ffff:10.0.0.1").unwrap()];
        assert!(take("10.0.0.1").is_none());
        let _network = (take("2001:db8::1").unwrap(), take("2001:db8::ffff:2").unwrap());
        assert!(take("2001:db8::3").is_none());
        let _other = (take("10.0.0.2").unwrap(), take("2001:db8:0:1::1").unwrap());
        first.pop();
        first.push(take("10.0.0.1").unwrap());
        assert!(take("10.0.0.1").is_none());
        drop(first);
        assert_eq!(places.taken.lock().unwrap().len(), 3, "what has no connection is not remembered");
    }
}
