"""Options: what is declared is checked, documented and set."""

import unittest
from typing import List, Optional

from pipeline_plugin import ConfigError, Detector, option
from pipeline_plugin.stage import description


class Wide(Detector):
    """Has an option of every type."""

    count: int = option(3, "How many.", minimum=1, maximum=9)
    limit: float = option(0.5, "How far.", above=0, below=1)
    is_loud: bool = option(False, "Whether it is loud.")
    names: List[str] = option([], "Which ones.")
    side: str = option("both", "On which side.", choices=["both", "above"])
    password: Optional[str] = option(None, "A word.", secret=True)
    needed: int = option(..., "Must be given.", minimum=2)

    def start(self):
        return []


class Options(unittest.TestCase):
    def test_defaults_are_set_and_lists_are_not_shared(self):
        one, other = Wide(needed=2), Wide(needed=2)
        one.names.append("a")
        self.assertEqual((one.count, one.limit, other.names, one.password), (3, 0.5, [], None))

    def test_an_integer_is_a_float_where_one_is_wanted(self):
        class Far(Detector):
            """Far."""

            limit: float = option(1.5, "How far.")

        self.assertIs(type(Far(limit=2).limit), float)

    def test_what_is_wrong_is_told_with_its_place(self):
        for given, place, words in [
            ({}, None, "missing option `needed`: Must be given."),
            ({"count": 0}, "count", "`count` is 0, it must be at least 1"),
            ({"count": 10}, "count", "`count` is 10, it must be at most 9"),
            ({"count": True}, "count", "`count` is true, it must be a whole number"),
            ({"count": 2.5}, "count", "`count` is 2.5, it must be a whole number"),
            ({"limit": 0}, "limit", "`limit` is 0, it must be above 0"),
            ({"limit": 1}, "limit", "`limit` is 1, it must be below 1"),
            ({"limit": float("inf")}, "limit", "`limit` is Infinity, it must be finite"),
            ({"names": "a"}, "names", '`names` is "a", it must be a list'),
            ({"names": ["a", 7]}, "names.1", "`names.1` is 7, it must be text"),
            ({"side": "below"}, "side", '`side` is "below", it must be one of "both", "above"'),
            ({"password": 5}, "password", "`password` is ***, it must be text"),
            ({"nedeed": 5}, "nedeed", "unknown option `nedeed`, there is count, limit, is_loud, names, side, password, needed"),
        ]:
            if "needed" not in given and words[:7] != "missing":
                given = {"needed": 2, **given}
            with self.assertRaises(ConfigError) as raised:
                Wide(**given)
            self.assertEqual((str(raised.exception), raised.exception.option), (words, place))

    def test_the_schema_says_all_of_it(self):
        about = description(Wide)
        schema = about["schema"]
        self.assertEqual(about["name"], "wide")
        self.assertEqual(schema["description"], "Has an option of every type.")
        self.assertEqual(schema["required"], ["needed"])
        self.assertEqual(
            schema["properties"]["count"],
            {"description": "How many.", "type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        )
        self.assertEqual(schema["properties"]["names"]["items"], {"type": "string"})
        self.assertEqual(schema["properties"]["password"]["type"], ["string", "null"])
        self.assertTrue(schema["properties"]["password"]["writeOnly"])
        self.assertIn("  needed: 2\n", about["example"])

    def test_a_class_is_named_in_lower_case(self):
        names = {}
        for name in ("Jump", "FirstOrder", "HTTPCheck", "Ar2"):
            kind = type(name, (Detector,), {"__doc__": "Words."})
            names[name] = description(kind)["name"]
        self.assertEqual(
            names, {"Jump": "jump", "FirstOrder": "first_order", "HTTPCheck": "http_check", "Ar2": "ar2"}
        )


if __name__ == "__main__":
    unittest.main()
