# What the R kernel of this image does besides: data frames travel as data too, as those of Python's kernels do
# (kernel_sandbox/inside/table_data.py), beside their text and HTML. https://specs.frictionlessdata.io/table-schema/
local({
    type <- "application/vnd.dataresource+json"
    most_rows <- suppressWarnings(as.integer(Sys.getenv("KERNEL_SANDBOX_TABLE_ROWS", "200")))
    most_cells <- 20000
    most_text <- 1000000

    quoted <- function(texts) {
        json <- vapply(enc2utf8(texts), function(text) as.character(jsonlite::toJSON(jsonlite::unbox(text))), "")
        ifelse(is.na(texts), "null", unname(json))
    }
    number <- function(values) {
        text <- ifelse(values > 0, "\"INF\"", "\"-INF\"")
        text[is.finite(values)] <- sprintf("%.17g", values[is.finite(values)])
        ifelse(is.na(values), "null", text)
    }
    time <- function(values, form) {
        ifelse(is.na(values), "null", sprintf("\"%s\"", format(values, form, tz = "UTC")))
    }
    # What a column says of its type, and its values as JSON; NULL for one that JSON cannot say.
    column <- function(values) {
        if (is.factor(values)) {
            known <- paste(quoted(levels(values)), collapse = ",")
            about <- "\"type\":\"any\",\"constraints\":{\"enum\":[%s]},\"ordered\":%s,\"dtype\":\"object\""
            ordered <- tolower(is.ordered(values))
            return(list(sprintf(about, known, ordered), quoted(as.character(values))))
        }
        if (inherits(values, "Date")) {
            return(list("\"type\":\"datetime\",\"dtype\":\"datetime64[s]\"", time(values, "%Y-%m-%dT00:00:00")))
        }
        if (inherits(values, "POSIXct")) {
            about <- "\"type\":\"datetime\",\"tz\":\"UTC\",\"dtype\":\"datetime64[us]\""
            return(list(about, time(values, "%Y-%m-%dT%H:%M:%OS6+00:00")))
        }
        if (!is.null(dim(values)) || is.object(values)) return(NULL)
        switch(typeof(values),
            logical = list(
                "\"type\":\"boolean\",\"extDtype\":\"boolean\"", ifelse(is.na(values), "null", tolower(values))
            ),
            integer = list(
                "\"type\":\"integer\",\"extDtype\":\"Int32\"", ifelse(is.na(values), "null", format(values, trim = TRUE))
            ),
            double = list("\"type\":\"number\",\"dtype\":\"float64\"", number(values)),
            character = list("\"type\":\"string\",\"extDtype\":\"string\"", quoted(values)),
            NULL
        )
    }
    table <- function(frame) {
        total <- nrow(frame)
        columns <- ncol(frame)
        count <- max(0, min(total, most_rows, most_cells %/% max(1, columns + 1)))
        shown <- lapply(unclass(frame), function(values) if (is.null(dim(values))) utils::head(values, count) else values)
        names <- names(shown)
        automatic <- .row_names_info(frame) < 0
        if (!automatic) {
            shown <- c(list(utils::head(row.names(frame), count)), shown)
            names <- c("index", names)
        }
        if (!length(names) || anyDuplicated(names) || anyNA(names) || any(names == "")) return(NULL)
        written <- lapply(unname(shown), column)
        if (any(vapply(written, is.null, TRUE))) return(NULL)
        keys <- quoted(names)
        fields <- sprintf("{\"name\":%s,%s}", keys, vapply(written, function(one) one[[1]], ""))
        cells <- Map(function(key, one) paste0(key, ":", one[[2]]), keys, written)
        rows <- if (count) sprintf("{%s}", do.call(paste, c(unname(cells), sep = ","))) else character()
        fitting <- cumsum(nchar(rows)) <= most_text
        key <- if (automatic) "" else ",\"primaryKey\":[\"index\"]"
        resource <- sprintf(
            "{\"schema\":{\"fields\":[%s]%s},\"data\":[%s]}",
            paste(fields, collapse = ","), key, paste(rows[fitting], collapse = ",")
        )
        list(structure(resource, class = "json"), list(rows = total, truncated = sum(fitting) < total))
    }

    bundle <- IRdisplay::prepare_mimebundle
    with_table <- function(obj, ...) {
        made <- bundle(obj, ...)
        told <- if (is.data.frame(obj)) tryCatch(table(obj), error = function(problem) NULL)
        if (!is.null(told)) {
            made$data[[type]] <- told[[1]]
            made$metadata <- as.list(made$metadata)
            made$metadata[[type]] <- told[[2]]
        }
        made
    }
    to_json <- function(...) jsonlite::toJSON(..., json_verbatim = TRUE)
    replace <- function(name, value, place) {
        unlockBinding(name, place)
        assign(name, value, envir = place)
        lockBinding(name, place)
    }
    kernel <- parent.env(asNamespace("IRkernel"))
    replace("toJSON", to_json, kernel)
    for (place in list(asNamespace("IRdisplay"), kernel)) {
        if (exists("prepare_mimebundle", envir = place, inherits = FALSE)) {
            replace("prepare_mimebundle", with_table, place)
        }
    }
})
