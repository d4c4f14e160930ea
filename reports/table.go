package reports

// Table lists every format.
var Table = []Format{
	{Name: "text", Render: Text,
		Doc: "For people: what happened on a time line, the findings with their evidence, and how to repeat the run."},
	{Name: "json", Render: JSON,
		Doc: "For programs: everything that the text says, by a versioned schema (run.json)."},
	{Name: "junit", Render: JUnit,
		Doc: "For CI: a test suite for each scenario and a test case for each finding; FAIL is a failure, INVALID an error."},
}
