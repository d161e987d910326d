"""What a type checker must refuse: a comment that is not needed is an error too."""

from __future__ import annotations

import kmm
from kmm.testing import assert_equivalent

kmm.chek("reviewed")  # type: ignore[attr-defined]
kmm.check()  # type: ignore[call-arg]
kmm.check(7)  # type: ignore[arg-type]
kmm.check("reviewed", scope="everything")  # type: ignore[arg-type]
kmm.check("reviewed", "v12", "quick")  # type: ignore[call-arg]
kmm.check("reviewed", seed="1")  # type: ignore[arg-type]
kmm.check("reviewed", scenarios=[1, 2])  # type: ignore[list-item]
kmm.check("reviewed", expect="different")  # type: ignore[arg-type]
kmm.load_variant(None)  # type: ignore[arg-type]
kmm.load_scenarios(["a.toml"])  # type: ignore[arg-type]
kmm.run()  # type: ignore[call-arg]
kmm.run("s.toml", record=True)  # type: ignore[call-arg]
print(kmm.run("s.toml").nosuch)  # type: ignore[attr-defined]
kmm.check("reviewed").relation = kmm.Relation.EQUIVALENT  # type: ignore[misc]
kmm.Geometry(512)  # type: ignore[call-arg]
kmm.Vma(pages=8)  # type: ignore[arg-type]
kmm.Scenario(driver=kmm.Driver(kind=kmm.DriverKind.KHUGEPAGED))  # type: ignore[call-arg]
assert_equivalent("reviewed", scope=1)  # type: ignore[arg-type]
assert_equivalent("reviewed", "v12", [])  # type: ignore[call-arg]
assert_equivalent("reviewed", budget="1")  # type: ignore[call-arg]
